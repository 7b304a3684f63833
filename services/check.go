package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/consistency"
	"github.com/atlas-platform/atlas/internal/postgres"
)

// What `atlas check` ends with, besides 0.
const (
	exitDifferences = 1
	exitUnchecked   = 2
)

type checkConfig struct {
	Database      config.Database
	Elasticsearch config.Elasticsearch
}

type auditCheckConfig struct{ Database config.Database }

// checkOptions are the command's flags.
type checkOptions struct {
	consistency.Options
	only string
}

func checkCommand() *cobra.Command {
	var o checkOptions
	var output string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Compare PostgreSQL with the search index and the audit trail",
		Long: `Compare PostgreSQL, the truth, with the search index and the audit trail.

Everything is read in key order with little memory. Writes may go on: what differs is looked at again until it is right, or has been wrong for --settle.
--repair mends the index; the audit trail is a record and stays as it is.

Exit code: 0 nothing differs (any more), 1 something differs, 2 it could not be checked, or changes were still on their way after --patience.

Environment variables, their defaults and meanings (with --only audit, DATABASE_URL alone):
` + config.Usage[checkConfig](),
		Example: `  atlas check                         # both sides
  atlas check --repair                # mend the index too
  atlas check --only audit -o json    # for a program, the audit trail alone`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := isJSON(output)
			if err != nil {
				return &exitError{code: exitUnchecked, err: err}
			}
			report, err := check(cmd.Context(), o, cmd.ErrOrStderr())
			if err != nil {
				return &exitError{code: exitUnchecked, err: err}
			}
			if err := printReport(cmd.OutOrStdout(), asJSON, report); err != nil {
				return &exitError{code: exitUnchecked, err: err}
			}
			switch n := report.Remaining(); {
			case n > 0:
				return &exitError{code: exitDifferences, err: fmt.Errorf("%d differences", n)}
			case report.Undecided > 0:
				return &exitError{code: exitUnchecked, err: fmt.Errorf("%d changes are still on their way: is the relay, the indexer or the audit consumer behind?", report.Undecided)}
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.Deep, "deep", false, "compare the contents of documents that have the right version too")
	flags.BoolVar(&o.Repair, "repair", false, "mend the index")
	flags.StringVar(&o.only, "only", "", "check one side alone: index or audit")
	flags.IntVar(&o.Limit, "limit", 10, "how many examples of each kind are named")
	flags.DurationVar(&o.Settle, "settle", 10*time.Second, "how long something must have been wrong to count")
	flags.DurationVar(&o.Patience, "patience", 2*time.Minute, "how long changes that are on their way are waited for")
	outputFlag(cmd, &output)
	return cmd
}

func check(ctx context.Context, o checkOptions, progress io.Writer) (*consistency.Report, error) {
	switch {
	case o.only != "" && o.only != "index" && o.only != "audit":
		return nil, fmt.Errorf("--only=%q is unknown: want index or audit", o.only)
	case o.Limit < 1 || o.Settle <= 0 || o.Patience < o.Settle:
		return nil, errors.New("want --limit of at least 1, --settle of more than 0s and no more than --patience")
	}
	checker, stop, err := newChecker(ctx, o.only == "audit")
	if err != nil {
		return nil, err
	}
	defer stop()
	o.Progress = printProgress(progress)
	var parts []*consistency.Report
	if o.only != "audit" {
		report, err := checker.Index(ctx, o.Options)
		if err != nil {
			return nil, fmt.Errorf("check the index: %w", err)
		}
		parts = append(parts, report)
	}
	if o.only != "index" {
		report, err := checker.Audit(ctx, o.Options)
		if err != nil {
			return nil, fmt.Errorf("check the audit trail: %w", err)
		}
		parts = append(parts, report)
	}
	return consistency.Join(parts...), nil
}

func newChecker(ctx context.Context, auditOnly bool) (*consistency.Checker, func(), error) {
	if auditOnly {
		cfg, err := config.Load[auditCheckConfig]()
		if err != nil {
			return nil, nil, err
		}
		pool, err := postgres.Open(ctx, cfg.Database.URL, cfg.Database.MaxConns)
		if err != nil {
			return nil, nil, err
		}
		return consistency.New(pool, nil, ""), pool.Close, nil
	}
	cfg, err := config.Load[checkConfig]()
	if err != nil {
		return nil, nil, err
	}
	es, err := newElasticsearch(cfg.Elasticsearch)
	if err != nil {
		return nil, nil, err
	}
	pool, err := postgres.Open(ctx, cfg.Database.URL, cfg.Database.MaxConns)
	if err != nil {
		return nil, nil, err
	}
	return consistency.New(pool, es, cfg.Elasticsearch.Index), pool.Close, nil
}

// printProgress writes a line every few seconds.
func printProgress(out io.Writer) func(phase string, done int64) {
	last := time.Now()
	return func(phase string, done int64) {
		if now := time.Now(); now.Sub(last) >= 2*time.Second {
			last = now
			fmt.Fprintf(out, "%s: %d compared\n", phase, done)
		}
	}
}

func printReport(out io.Writer, asJSON bool, report *consistency.Report) error {
	if asJSON {
		return printJSON(out, report)
	}
	checked := report.Checked
	fmt.Fprintf(out, "compared %d items with %d documents, %d entities and %d published events with the audit trail, in %.1f s\n",
		checked.Items, checked.Documents, checked.Entities, checked.Events, report.Seconds)
	if len(report.Differences) > 0 {
		table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
		fmt.Fprintln(table, "\nDIFFERENCE\tCOUNT\tMENDED\tMEANING")
		for _, d := range report.Differences {
			fmt.Fprintf(table, "%s\t%d\t%d\t%s\n", d.Kind, d.Count, d.Mended, d.Meaning)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	for _, d := range report.Differences {
		fmt.Fprintf(out, "\n%s, %d of %d:\n", d.Kind, len(d.Examples), d.Count)
		for _, e := range d.Examples {
			fmt.Fprintf(out, "  %s  %s\n", e.ID, e.Detail)
		}
	}
	switch {
	case report.Clean():
		fmt.Fprintln(out, "nothing differs")
	case report.Undecided > 0:
		fmt.Fprintf(out, "\n%d changes were still on their way: check again when they have arrived\n", report.Undecided)
	}
	return nil
}
