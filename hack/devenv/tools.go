package main

import (
	"context"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/atlas-platform/atlas/hack/devenv/process"
	"github.com/atlas-platform/atlas/hack/devenv/python"
)

// requirements pins schemathesis and everything that it needs.
const requirements = "test/contract/requirements.txt"

func toolsCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "tools",
		Short: "Install the programs that only tests need",
		Long:  "Install the programs that only tests need: curl, and schemathesis, in a Python environment of its own in the cache. SCHEMATHESIS names it.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := env.state()
			if err != nil {
				return err
			}
			if _, err := env.vars(); err != nil { // the instance is up: else nobody would remember where the programs are
				return err
			}
			var program string
			console := process.NewConsole(cmd.OutOrStdout())
			err = console.Step(cmd.Context(), "curl", func(ctx context.Context, p *process.Progress) error {
				return process.EnsurePackages(ctx, p, map[string]string{"curl": "curl"})
			})
			if err != nil {
				return err
			}
			err = console.Step(cmd.Context(), "Schemathesis", func(ctx context.Context, p *process.Progress) (err error) {
				program, err = python.Install(ctx, p, filepath.Join(state.Checkout, filepath.FromSlash(requirements)), "schemathesis")
				return err
			})
			if err != nil {
				return err
			}
			return saveVars(state, []process.Var{{Name: "SCHEMATHESIS", Value: program}})
		},
	}
}
