package main

import (
	"github.com/spf13/cobra"

	"github.com/atlas-platform/atlas/hack/devenv/cluster"
	"github.com/atlas-platform/atlas/hack/devenv/process"
)

func metricsCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "metrics",
		Short: "Install metrics-server on the running cluster, for autoscaling and kubectl top",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := env.state()
			if err != nil {
				return err
			}
			unlock, err := state.Lock(cmd.Context())
			if err != nil {
				return err
			}
			defer unlock()
			c, err := cluster.Open(cmd.Context(), state, process.NewConsole(cmd.OutOrStdout()))
			if err != nil {
				return err
			}
			return c.Metrics(cmd.Context())
		},
	}
}
