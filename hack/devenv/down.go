package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/atlas-platform/atlas/hack/devenv/cluster"
	"github.com/atlas-platform/atlas/hack/devenv/process"
	"github.com/atlas-platform/atlas/hack/devenv/servers"
)

// demoFile is where the demo leaves its user's login, beside the addresses.
const demoFile = "demo.env"

func downCommand(env *environment) *cobra.Command {
	var keepData bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "End what was started and remove its data",
		Long:  "End what this instance started, by pid and start time, and remove its data. The cache of downloads and builds stays.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := env.state()
			if err != nil {
				return err
			}
			if _, err := os.Stat(state.Dir); errors.Is(err, fs.ErrNotExist) {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "nothing to end")
				return err
			}
			console := process.NewConsole(cmd.OutOrStdout())
			return console.Step(cmd.Context(), "Environment", func(ctx context.Context, p *process.Progress) error {
				p.Set("ending")
				if keepData {
					p.Outcome("ended, data kept")
				} else {
					p.Outcome("ended and removed")
				}
				return down(ctx, state, keepData)
			})
		},
	}
	cmd.Flags().BoolVar(&keepData, "keep-data", false, "keep the data, logs and ports for the next up")
	return cmd
}

// down ends in the reverse order of up: what uses the servers goes before them.
func down(ctx context.Context, state *process.State, keepData bool) error {
	if err := downCluster(ctx, state); err != nil {
		return err
	}
	if err := servers.Down(ctx, state, keepData); err != nil {
		return err
	}
	unlock, err := state.Lock(ctx)
	if err != nil {
		return err
	}
	defer func() {
		unlock()
		_ = os.Remove(filepath.Dir(state.Dir)) // only when no other instance has anything in it
	}()
	run := filepath.Dir(envFile(state))
	files := []string{envFile(state), varsFile(state)}
	if state.Instance == process.DefaultInstance {
		files = append(files, filepath.Join(run, demoFile))
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the addresses: %w", err)
		}
	}
	_ = os.Remove(run) // only when nothing else is in it
	if err := state.StopAll(ctx); err != nil {
		return err
	}
	if keepData {
		return nil
	}
	return state.Remove()
}

func downCluster(ctx context.Context, state *process.State) error {
	unlock, err := state.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	c, err := cluster.Open(ctx, state, nil)
	if err != nil {
		return err
	}
	return c.Down(ctx)
}
