package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atlas-platform/atlas/hack/devenv/process"
	"github.com/atlas-platform/atlas/hack/devenv/servers"
)

// target is something that `up` can bring up.
type target struct {
	name, what string
	up         func(context.Context, *process.State, *process.Console) error
}

// targets are in order: each builds on the ones before it, and `up NAME` brings up all of them until NAME.
func targets() []target {
	return []target{
		{"servers", "PostgreSQL, Kafka and Elasticsearch", upServers},
	}
}

func upCommand(env *environment) *cobra.Command {
	all := targets()
	var names, help []string
	for _, t := range all {
		names = append(names, t.name)
		help = append(help, fmt.Sprintf("  %-10s %s", t.name, t.what))
	}
	last := names[len(names)-1]
	return &cobra.Command{
		Use:       "up [" + strings.Join(names, "|") + "]",
		Short:     "Start what isn't running yet and wait until it answers",
		Long:      "Start what isn't running yet and wait until it answers. Each target includes those above it:\n\n" + strings.Join(help, "\n"),
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: names,
		RunE: func(cmd *cobra.Command, args []string) error {
			until := last
			if len(args) == 1 {
				until = args[0]
			}
			state, err := env.state()
			if err != nil {
				return err
			}
			console := process.NewConsole(cmd.OutOrStdout())
			for _, t := range all {
				if err := t.up(cmd.Context(), state, console); err != nil {
					return err
				}
				if t.name == until {
					break
				}
			}
			return nil
		},
	}
}

func upServers(ctx context.Context, state *process.State, console *process.Console) error {
	_, err := servers.Up(ctx, servers.Options{State: state, Console: console})
	return err
}
