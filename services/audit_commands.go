package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/atlas-platform/atlas/internal/auditchain"
	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/postgres"
)

// auditToolConfig is what the commands on the audit trail read from the environment.
type auditToolConfig struct {
	Database config.Database
}

// auditCommand is the role and, below it, what an operator does with the trail.
func auditCommand() *cobra.Command {
	cmd := role("audit", "Write every event to the audit trail", runAudit)
	cmd.AddCommand(auditVerifyCommand(), auditExportCommand(), auditPruneCommand())
	return cmd
}

// onAuditTrail opens the database for a command.
func onAuditTrail(ctx context.Context, work func(*pgxpool.Pool) error) error {
	cfg, err := config.Load[auditToolConfig]()
	if err != nil {
		return err
	}
	pool, err := postgres.Open(ctx, cfg.Database.URL, cfg.Database.MaxConns)
	if err != nil {
		return err
	}
	defer closePool(pool)
	return work(pool)
}

func auditVerifyCommand() *cobra.Command {
	var archive, heads, output string
	var partition int32
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Prove that no row of the audit trail was changed, removed or inserted",
		Long: `Follow the hash chain of each partition, in constant memory and while the trail is written on, and name each row that was changed, removed or
inserted. It fails when there is such a row.

A chain can't show that all of it, with its recorded head, was replaced. Keep a report (-o json) outside the database, and give it to the next run
as --heads: the rows that it speaks of have to be there still, unchanged.

` + "Environment variables, their defaults and meanings:\n" + config.Usage[auditToolConfig](),
		Example: `  atlas audit verify
  atlas audit verify -o json > heads.json    # to be kept elsewhere
  atlas audit verify --heads heads.json
  atlas audit verify --archive /backup/audit # exported segments; needs no database`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := isJSON(output)
			if err != nil {
				return err
			}
			o := auditchain.VerifyOptions{Progress: func(partition int32, rows int64) {
				fmt.Fprintf(cmd.ErrOrStderr(), "partition %d: %d rows\n", partition, rows)
			}}
			if cmd.Flags().Changed("partition") {
				o.Partition = &partition
			}
			if o.Known, err = knownHeads(heads); err != nil {
				return err
			}
			var report *auditchain.Report
			if archive != "" {
				report, err = auditchain.VerifyArchive(archive, o)
			} else {
				err = onAuditTrail(cmd.Context(), func(pool *pgxpool.Pool) (err error) {
					report, err = auditchain.Verify(cmd.Context(), pool, o)
					return err
				})
			}
			if err != nil {
				return err
			}
			if err := printAuditReport(cmd.OutOrStdout(), report, asJSON); err != nil {
				return err
			}
			if report.Found > 0 {
				return fmt.Errorf("the audit trail is not as it was written: %d findings", report.Found)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&archive, "archive", "", "folder of exported segments to verify instead of the database")
	cmd.Flags().StringVar(&heads, "heads", "", "earlier report (-o json) that was kept elsewhere; its rows have to be there still")
	cmd.Flags().Int32Var(&partition, "partition", 0, "only this Kafka partition")
	outputFlag(cmd, &output)
	return cmd
}

// knownHeads reads an earlier report.
func knownHeads(path string) ([]auditchain.Anchor, error) {
	if path == "" {
		return nil, nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--heads: %w", err)
	}
	var report auditchain.Report
	if err := json.Unmarshal(content, &report); err != nil {
		return nil, fmt.Errorf("--heads: %s is not a report of `atlas audit verify -o json`: %w", path, err)
	}
	return report.Heads(), nil
}

func printAuditReport(out io.Writer, report *auditchain.Report, asJSON bool) error {
	if asJSON {
		return printJSON(out, report)
	}
	for i := range report.Findings {
		fmt.Fprintln(out, &report.Findings[i])
	}
	if more := report.Found - int64(len(report.Findings)); more > 0 {
		fmt.Fprintf(out, "and %d more\n", more)
	}
	for _, p := range report.Partitions {
		fmt.Fprintf(out, "partition %d: %d rows from %d to %d, %d findings, head %x\n", p.Partition, p.Rows, p.PrunedThrough+1, p.LastPosition, p.Found, []byte(p.LastHash))
	}
	if report.Found == 0 {
		fmt.Fprintf(out, "the chain is intact: %d rows in %d partitions\n", report.Rows, len(report.Partitions))
	}
	return nil
}

func auditExportCommand() *cobra.Command {
	var before, folder string
	var rows int64
	cmd := &cobra.Command{
		Use:   "export --before TIME --to FOLDER",
		Short: "Write old rows of the audit trail to files that can be verified without a database",
		Long: `Write the rows that were recorded before a time, and were not exported yet, as segments: NDJSON files, each with a manifest that has the hashes of
the chain at its ends. The rows stay in the database until ` + "`atlas audit prune`" + `. An interrupted export goes on where it was when it is called again.

` + "Environment variables, their defaults and meanings:\n" + config.Usage[auditToolConfig](),
		Example: `  atlas audit export --before 2160h --to /backup/audit   # what is older than 90 days
  atlas audit export --before 2026-01-01 --to /backup/audit`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			limit, err := parseBefore(before, time.Now())
			if err != nil {
				return err
			}
			if rows < 1 {
				return errors.New("--segment-rows must be at least 1")
			}
			if info, err := os.Stat(folder); err != nil || !info.IsDir() {
				return fmt.Errorf("--to=%q is not a folder: make it first", folder)
			}
			return onAuditTrail(cmd.Context(), func(pool *pgxpool.Pool) error {
				segments, err := auditchain.Export(cmd.Context(), pool, auditchain.ExportOptions{
					Folder: folder, Before: limit, SegmentRows: rows,
					Done: func(s auditchain.Segment) { fmt.Fprintf(cmd.ErrOrStderr(), "%s: %d rows\n", s.File, s.Rows) },
				})
				fmt.Fprintf(cmd.OutOrStdout(), "exported %d segments\n", len(segments))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&before, "before", "", "a date, a time (RFC 3339), or an age such as 2160h")
	cmd.Flags().StringVar(&folder, "to", "", "folder that gets the files")
	cmd.Flags().Int64Var(&rows, "segment-rows", auditchain.DefaultSegmentRows, "rows of a segment at most")
	_ = cmd.MarkFlagRequired("before")
	_ = cmd.MarkFlagRequired("to")
	return cmd
}

func auditPruneCommand() *cobra.Command {
	var before, archive string
	var unchecked bool
	cmd := &cobra.Command{
		Use:   "prune --archive FOLDER",
		Short: "Remove rows of the audit trail that were exported",
		Long: `Remove the rows of exported segments, oldest first, each segment in one transaction, once its file was read and is the one that was exported. What
is known of the chain stays, so that ` + "`atlas audit verify`" + ` goes on from there, and the ids of the events, so that a replay of the topic does not
bring them back. It can be interrupted and called again.

` + "Environment variables, their defaults and meanings:\n" + config.Usage[auditToolConfig](),
		Example: `  atlas audit prune --archive /backup/audit
  atlas audit prune --archive /backup/audit --before 8760h  # keeps a year`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (archive == "") != unchecked {
				return errors.New("give either --archive, the folder of the exported files, or --unchecked, if they are elsewhere and you have verified them")
			}
			o := auditchain.PruneOptions{Folder: archive, Done: func(s auditchain.Segment) {
				fmt.Fprintf(cmd.ErrOrStderr(), "partition %d: removed rows %d to %d\n", s.Partition, s.FirstPosition, s.LastPosition)
			}}
			if before != "" {
				var err error
				if o.Before, err = parseBefore(before, time.Now()); err != nil {
					return err
				}
			}
			return onAuditTrail(cmd.Context(), func(pool *pgxpool.Pool) error {
				segments, err := auditchain.Prune(cmd.Context(), pool, o)
				fmt.Fprintf(cmd.OutOrStdout(), "pruned %d segments\n", len(segments))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&archive, "archive", "", "folder of the exported files")
	cmd.Flags().BoolVar(&unchecked, "unchecked", false, "believe the database's record of the export, without the files")
	cmd.Flags().StringVar(&before, "before", "", "keep segments with newer rows: a date, a time (RFC 3339), or an age such as 2160h")
	return cmd
}

// parseBefore reads a date, a time or an age.
func parseBefore(value string, now time.Time) (time.Time, error) {
	if age, err := time.ParseDuration(value); err == nil && age >= 0 {
		return now.Add(-age), nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, value); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("--before=%q is no time: want 2006-01-02, 2006-01-02T15:04:05Z, or an age such as 2160h", value)
}
