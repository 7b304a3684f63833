package tasks

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/elastic/go-elasticsearch/v8"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/consistency"
	"github.com/atlas-platform/atlas/internal/jobs"
)

// TypeConsistencyCheck is the job type that compares PostgreSQL with what was made from it.
const TypeConsistencyCheck = "consistency_check"

const (
	onlyIndex = "index"
	onlyAudit = "audit"

	codeDifferences = "differences"
	codeUndecided   = "undecided"
	codeNoIndex     = "no_index"
	// maxNamedExamples is how many examples of each kind of difference the error names.
	maxNamedExamples = 3
)

// consistencyCheck is `atlas check` as a job: the result is the report, whether something differs or not. It holds nothing open and begins anew when it was cut short.
type consistencyCheck struct {
	checker *consistency.Checker
	index   bool
	// options are the defaults but in tests.
	options consistency.Options
}

func newConsistencyCheck(pool *pgxpool.Pool, es *elasticsearch.Client, alias string) *consistencyCheck {
	var client elastictransport.Interface
	if es != nil {
		client = es
	}
	return &consistencyCheck{checker: consistency.New(pool, client, alias), index: es != nil}
}

// ConsistencyCheckParameters are what a check is asked for with.
type ConsistencyCheckParameters struct {
	Deep   bool   `json:"deep" doc:"Compare the contents of documents too where the versions agree." default:"false"`
	Repair bool   `json:"repair" doc:"Mend the search index; the audit trail is a record and stays as it is." default:"false"`
	Only   string `json:"only" doc:"Check one side alone; without it both." enum:"index,audit"`
}

// Kind implements jobs.Task.
func (*consistencyCheck) Kind() jobs.Kind {
	return jobs.Kind{
		Name: TypeConsistencyCheck, Summary: "Compares PostgreSQL with the search index and the audit trail, and mends the index on request.",
		Scope: jobs.ScopePlatform, Parameters: ConsistencyCheckParameters{}, Concurrency: 1,
	}
}

// Run implements jobs.Task.
func (c *consistencyCheck) Run(ctx context.Context, x *jobs.Execution) (any, error) {
	parameters, err := decode[ConsistencyCheckParameters](x)
	if err != nil {
		return nil, err
	}
	if !c.index && parameters.Only == onlyIndex {
		return nil, jobs.Permanent(jobs.Errorf(codeNoIndex, "there is no search index here: PostgreSQL itself is searched"))
	}
	report, err := c.check(ctx, x, parameters)
	if err != nil {
		return nil, err
	}
	switch remaining := report.Remaining(); {
	case remaining > 0:
		return report, jobs.Permanent(jobs.Errorf(codeDifferences, "%s", differences(report)))
	case report.Undecided > 0:
		return report, jobs.Errorf(codeUndecided, "%d changes are still on their way: is the relay, the indexer or the audit consumer behind?", report.Undecided)
	}
	return report, nil
}

func (c *consistencyCheck) check(ctx context.Context, x *jobs.Execution, parameters ConsistencyCheckParameters) (_ *consistency.Report, err error) {
	progress, ctx := tell(ctx, x)
	defer func() { err = progress.stop(err) }()
	options := c.options
	options.Deep, options.Repair = parameters.Deep, parameters.Repair
	options.Progress = func(phase string, done int64) { progress.save(phase, done, 0, struct{}{}) }
	var parts []*consistency.Report
	if c.index && parameters.Only != onlyAudit {
		report, err := c.checker.Index(ctx, options)
		if err != nil {
			return nil, fmt.Errorf("check the index: %w", err)
		}
		parts = append(parts, report)
	}
	if parameters.Only != onlyIndex {
		report, err := c.checker.Audit(ctx, options)
		if err != nil {
			return nil, fmt.Errorf("check the audit trail: %w", err)
		}
		parts = append(parts, report)
	}
	if len(parts) == 0 {
		return nil, errors.New("nothing was checked")
	}
	return consistency.Join(parts...), nil
}

// differences says what differs, with examples.
func differences(report *consistency.Report) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%d differences", report.Remaining())
	for _, d := range report.Differences {
		if d.Count == d.Mended {
			continue
		}
		fmt.Fprintf(&out, "; %s: %d (%s)", d.Kind, d.Count-d.Mended, d.Meaning)
		for _, example := range d.Examples[:min(len(d.Examples), maxNamedExamples)] {
			fmt.Fprintf(&out, ", %s", strings.TrimSpace(example.ID+" "+example.Detail))
		}
	}
	return out.String()
}
