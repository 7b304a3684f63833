// Command kubectl-atlas is a plugin of kubectl: with it on the PATH, `kubectl atlas` looks after the AtlasStacks of a cluster. It does nothing that the user's own
// rights don't allow.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := rootCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		stop()
		os.Exit(1)
	}
}

// rootCommand has kubectl's own flags for the cluster, --context, --namespace and so on, on every subcommand.
func rootCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kubectl-atlas",
		Short: "Look after AtlasStacks",
		Long: "Look after AtlasStacks.\n\nSTACK may be left out where the namespace has one only. " +
			"The cluster and the namespace are kubectl's: of the kubeconfig's current context, unless flags say otherwise.",
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl atlas"},
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	where := &where{rules: clientcmd.NewDefaultClientConfigLoadingRules()}
	cmd.PersistentFlags().StringVar(&where.rules.ExplicitPath, "kubeconfig", "", "path of the kubeconfig")
	flags := clientcmd.RecommendedConfigOverrideFlags("")
	flags.ContextOverrideFlags.Namespace.ShortName = "n"
	clientcmd.BindOverrideFlags(&where.overrides, cmd.PersistentFlags(), flags)
	cmd.AddGroup(&cobra.Group{ID: "look", Title: "To look:"}, &cobra.Group{ID: "change", Title: "To change:"})
	cmd.AddCommand(
		statusCommand(where), logsCommand(where), openCommand(where), bundleCommand(where),
		reindexCommand(where), reconcileCommand(where), adminCommand(where),
		switchCommand(where, "pause", "Stop the operator from changing anything for a stack", pause(true)),
		switchCommand(where, "resume", "Have the operator look after a paused stack again", pause(false)),
		switchCommand(where, "hibernate", "Scale every role of a stack to zero; its data stays", hibernate(true)),
		switchCommand(where, "wake", "Bring a hibernating stack back", hibernate(false)),
	)
	return cmd
}
