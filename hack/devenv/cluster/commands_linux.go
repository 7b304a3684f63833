package cluster

import (
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Commands returns the hidden commands by which devenv starts itself again: as PID 1 of a node, and as a forwarder.
func Commands() []*cobra.Command {
	return []*cobra.Command{nodeInitCommand(), forwardCommand()}
}

func nodeInitCommand() *cobra.Command {
	return &cobra.Command{
		Use: "node-init DIR PROGRAMS", Short: "Run as the first process of a node", Hidden: true, Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM)
			defer stop()
			return runInit(ctx, args[0], args[1])
		},
	}
}

func forwardCommand() *cobra.Command {
	var node int
	var inside bool
	cmd := &cobra.Command{
		Use: "forward TARGET...", Short: "Pass connections between the host and a node", Hidden: true, Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, targets []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			listeners, err := inherited(len(targets))
			if err != nil {
				return err
			}
			return runForwarder(ctx, node, inside, listeners, targets)
		},
	}
	cmd.Flags().IntVar(&node, "node", 0, "pid of the node to end with")
	cmd.Flags().BoolVar(&inside, "inside", false, "open the connections inside the node's network")
	return cmd
}
