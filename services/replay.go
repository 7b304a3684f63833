package main

import (
	"fmt"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/atlas-platform/atlas/internal/auditchain"
	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/services/replay"
)

func replayCommand() *cobra.Command {
	var o replay.Options
	var from string
	output := "text"
	cmd := &cobra.Command{
		Use:   "replay --group indexer|audit --from TIME|OFFSET|beginning",
		Short: "Set a stopped consumer back, so that it does the topic's past again",
		Long: `Set a stopped consumer back, so that it does the topic's past again once it runs: that rebuilds a search index or an audit trail that was lost.
The group's committed offsets go back to a time, to an offset, or to the beginning; never forward. No member of the group may run meanwhile.

With --group audit and DATABASE_URL it refuses when rows of the trail were lost that audit_heads still tells of: what is written then would come after a
gap. docs/operations.md says what to clear first.

Environment variables, their defaults and meanings:
` + config.Usage[replay.Config](),
		Example: `  atlas replay --group indexer --from beginning --dry-run
  atlas replay --group audit --from 2026-01-31T08:00:00Z --wait
  atlas replay --group indexer --from 120000`,
		GroupID: "operations",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Group != "indexer" && o.Group != "audit" {
				return fmt.Errorf("--group=%q is unknown: want indexer or audit", o.Group)
			}
			var err error
			if o.From, err = replay.ParseFrom(from); err != nil {
				return err
			}
			if o.JSON, err = isJSON(output); err != nil {
				return err
			}
			cfg, err := config.Load[replay.Config]()
			if err != nil {
				return err
			}
			switch {
			case o.Group != "audit":
			case os.Getenv("DATABASE_URL") == "":
				fmt.Fprintln(cmd.ErrOrStderr(), "without DATABASE_URL nobody looks whether rows of the audit trail were lost that its heads still tell of")
			default:
				if err := onAuditTrail(cmd.Context(), func(pool *pgxpool.Pool) error { return auditchain.Rebuildable(cmd.Context(), pool) }); err != nil {
					return err
				}
			}
			_, err = replay.Run(cmd.Context(), cfg, o, cmd.OutOrStdout(), cmd.ErrOrStderr())
			return err
		},
	}
	cmd.Flags().StringVar(&o.Group, "group", "", "indexer or audit")
	cmd.Flags().StringVar(&from, "from", "", "a time (RFC 3339), an offset, or beginning")
	cmd.Flags().BoolVar(&o.Wait, "wait", false, "wait until the group has no member")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "only say what would be done")
	outputFlag(cmd, &output)
	for _, required := range []string{"group", "from"} {
		if err := cmd.MarkFlagRequired(required); err != nil {
			panic(err)
		}
	}
	return cmd
}
