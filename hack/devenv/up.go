package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atlas-platform/atlas/hack/devenv/cluster"
	"github.com/atlas-platform/atlas/hack/devenv/process"
	"github.com/atlas-platform/atlas/hack/devenv/servers"
	"github.com/atlas-platform/atlas/hack/devenv/stack"
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
		{"cluster", "a Kubernetes node whose pods can reach them", upCluster},
		{"stack", "the Atlas operator and an AtlasStack, Ready", upStack},
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
			if until != all[0].name {
				if err := checkCluster(cmd.Context(), state); err != nil {
					return err
				}
			}
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

// checkCluster fails before the servers are started when the cluster can't be.
func checkCluster(ctx context.Context, state *process.State) error {
	c, err := cluster.Open(ctx, state, nil)
	if err != nil {
		return err
	}
	return c.Check()
}

func upCluster(ctx context.Context, state *process.State, console *process.Console) error {
	_, _, _, err := openCluster(ctx, state, console)
	return err
}

// openCluster brings the cluster up and connects it with the servers.
func openCluster(ctx context.Context, state *process.State, console *process.Console) (cluster.Cluster, *cluster.Info, *servers.Servers, error) {
	started, err := servers.Load(state)
	if err != nil {
		return nil, nil, nil, err
	}
	unlock, err := state.Lock(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	defer unlock()
	c, err := cluster.Open(ctx, state, console)
	if err != nil {
		return nil, nil, nil, err
	}
	if len(started.Unreachable) > 0 {
		return nil, nil, nil, fmt.Errorf("Atlas in the cluster can't use what you gave:\n  %s\nunset it to have a server started, or use `devenv up servers` without a cluster", //nolint:staticcheck // a name
			strings.Join(started.Unreachable, "\n  "))
	}
	ports := map[string]int{}
	for _, port := range started.NodePorts {
		ports[strconv.Itoa(port)] = port
	}
	info, err := c.Up(ctx, ports)
	if err != nil {
		return nil, nil, nil, err
	}
	vars, err := clusterVars(ctx, info)
	if err != nil {
		return nil, nil, nil, err
	}
	return c, info, started, saveVars(state, vars)
}

func upStack(ctx context.Context, state *process.State, console *process.Console) error {
	c, info, started, err := openCluster(ctx, state, nil) // upCluster has reported it
	if err != nil {
		return err
	}
	unlock, err := state.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	access, err := stack.Up(ctx, stack.Options{State: state, Console: console, Cluster: c, Info: info, Servers: started, Root: state.Checkout})
	if err != nil {
		return err
	}
	if err := saveVars(state, append(access.Env(), process.Var{Name: "HELM", Value: access.Helm})); err != nil {
		return err
	}
	file := envFile(state)
	vars := append(access.Env(), process.Var{Name: "KUBECONFIG", Value: info.Kubeconfig})
	if err := process.WriteEnv(file, append(vars, started.Env()...)); err != nil {
		return err
	}
	console.Printf(`
Atlas is ready.

  API         %s
  Reference   %s/docs
  Metrics     %s/metrics
  Admin       %s, password in %s
  KUBECONFIG  %s
  kubectl     %s

Next: make demo, or `+"`. %s`"+` and use curl and kubectl. make down ends it all.
`, access.URL, access.URL, access.OpsURL, access.AdminEmail, relative(state, file), info.Kubeconfig, info.Kubectl, relative(state, file))
	return nil
}
