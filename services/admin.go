package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/telemetry"
	"github.com/atlas-platform/atlas/services/migrate"
)

func adminCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "admin", Short: "Care for accounts, straight in the database", Args: cobra.NoArgs}
	cmd.AddCommand(&cobra.Command{
		Use:   "grant EMAIL",
		Short: "Make an account a platform admin",
		Long:  "Make an account a platform admin.\n\nEnvironment variables, their defaults and meanings:\n" + config.Usage[migrate.GrantConfig](),
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load[migrate.GrantConfig]()
			if err != nil {
				return err
			}
			logger := telemetry.NewLogger(cmd.ErrOrStderr(), cfg.Log.Level, cfg.Log.Format)
			return migrate.GrantAdmin(cmd.Context(), cfg, args[0], logger)
		},
	})
	cmd.AddCommand(&cobra.Command{
		Use:   "create EMAIL",
		Short: "Create an account that is a platform admin; the password is read from standard input",
		Long: "Create an account that is a platform admin. The password is the first line of standard input.\n\n" +
			"Environment variables, their defaults and meanings:\n" + config.Usage[migrate.GrantConfig](),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load[migrate.GrantConfig]()
			if err != nil {
				return err
			}
			secret, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 4096)).ReadString('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read the password from standard input: %w", err)
			}
			logger := telemetry.NewLogger(cmd.ErrOrStderr(), cfg.Log.Level, cfg.Log.Format)
			return migrate.CreateAdmin(cmd.Context(), cfg, args[0], strings.TrimRight(secret, "\r\n"), logger)
		},
	})
	return cmd
}
