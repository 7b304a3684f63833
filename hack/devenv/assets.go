package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atlas-platform/atlas/hack/devenv/cluster"
)

func assetsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "assets",
		Short: "Print the folder with kube-apiserver, etcd and kubectl for tests, for KUBEBUILDER_ASSETS; build them where they are missing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			folder, err := cluster.BuildEnvtest(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), folder)
			return nil
		},
	}
}
