package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/spf13/cobra"
)

func execCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "exec -- COMMAND [ARG...]",
		Short:   "Run a command that knows the addresses",
		Long:    "Run a command with the instance's addresses in its environment. The command takes devenv's place, so its exit code is the one seen.",
		Example: `  devenv exec -- sh -c 'psql "$DATABASE_URL"'`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			vars, err := env.vars()
			if err != nil {
				return err
			}
			path, err := exec.LookPath(args[0])
			if err != nil {
				return err
			}
			environ := os.Environ()
			for _, v := range vars {
				environ = append(environ, v.Name+"="+v.Value)
			}
			if err := syscall.Exec(path, args, withLastWins(environ)); err != nil {
				return fmt.Errorf("run %s: %w", path, err)
			}
			return nil
		},
	}
}

// withLastWins drops all but the last value of each variable; programs disagree on which one counts.
func withLastWins(environ []string) []string {
	cmd := exec.Cmd{Env: environ}
	return cmd.Environ()
}
