package tasks

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/auditchain"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// TypeAuditVerify is the job type that verifies the audit trail.
const TypeAuditVerify = "audit_verify"

const (
	codeAuditBroken = "audit_trail_broken"
	// maxFindings is how many findings the result has, and maxNamedFindings how many the error names.
	maxFindings      = 100
	maxNamedFindings = 10
)

// auditVerify is `atlas audit verify` as a job: the result is the report, whether something was found or not. Kept elsewhere, it is what a later verification by
// the command line (--heads) compares with. It follows the hash chains, one partition after the other, each in a snapshot of its own.
// What is verified is not verified again, unless somebody retries the job: a report says how the trail is, not how it was.
type auditVerify struct {
	pool    *pgxpool.Pool
	queries *db.Queries
}

func newAuditVerify(pool *pgxpool.Pool) jobs.Task {
	return &auditVerify{pool: pool, queries: db.New(pool)}
}

// AuditVerifyParameters are what a verification is asked for with.
type AuditVerifyParameters struct {
	Partition *int `json:"partition" doc:"Only the chain of this Kafka partition." min:"0" max:"2147483647"`
}

// auditVerifyState is the checkpoint: the report about the partitions that are done.
type auditVerifyState struct {
	// Started is when the job was, first or since its retry.
	Started time.Time         `json:"started"`
	Report  auditchain.Report `json:"report"`
}

// Kind implements jobs.Task.
func (*auditVerify) Kind() jobs.Kind {
	return jobs.Kind{
		Name: TypeAuditVerify, Summary: "Proves that no row of the audit trail was changed, removed or inserted.", Scope: jobs.ScopePlatform,
		Parameters: AuditVerifyParameters{}, Concurrency: 1,
	}
}

// Run implements jobs.Task.
func (a *auditVerify) Run(ctx context.Context, x *jobs.Execution) (any, error) {
	parameters, err := decode[AuditVerifyParameters](x)
	if err != nil {
		return nil, err
	}
	var state auditVerifyState
	if json.Unmarshal(x.Job.Checkpoint, &state) != nil || !state.Started.Equal(*x.Job.StartedAt) {
		state = auditVerifyState{Started: *x.Job.StartedAt} // there is none, or it is of before a retry
	}
	state.start()
	partitions, total, err := a.partitions(ctx, parameters)
	if err != nil {
		return nil, err
	}
	for _, partition := range partitions {
		done := func(p auditchain.PartitionReport) bool { return p.Partition == partition }
		if slices.ContainsFunc(state.Report.Partitions, done) {
			continue
		}
		report, err := a.verify(ctx, x, partition, total, state)
		if err != nil {
			return nil, err
		}
		state.add(report)
		if err := x.Save(ctx, state.Report.Rows, max(total, state.Report.Rows), state); err != nil {
			return nil, err
		}
	}
	if state.Report.Found > 0 {
		return state.Report, jobs.Permanent(jobs.Errorf(codeAuditBroken, "%s", findings(&state.Report)))
	}
	return state.Report, nil
}

// partitions are those to verify, and how many rows they have, more or less.
func (a *auditVerify) partitions(ctx context.Context, parameters AuditVerifyParameters) (partitions []int32, total int64, err error) {
	all, err := a.queries.AuditPartitions(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("list the partitions: %w", err)
	}
	for _, partition := range all {
		if parameters.Partition != nil && int(partition) != *parameters.Partition {
			continue
		}
		heads, err := a.queries.ListAuditHeads(ctx, partition)
		if err != nil {
			return nil, 0, fmt.Errorf("read the recorded heads: %w", err)
		}
		for _, head := range heads {
			total += head.ChainPosition
		}
		partitions = append(partitions, partition)
	}
	return partitions, total, nil
}

func (a *auditVerify) verify(ctx context.Context, x *jobs.Execution, partition int32, total int64, state auditVerifyState) (*auditchain.Report, error) {
	progress, ctx := tell(ctx, x)
	report, err := auditchain.Verify(ctx, a.pool, auditchain.VerifyOptions{
		Partition: &partition,
		Progress: func(partition int32, rows int64) {
			progress.save(fmt.Sprintf("partition %d", partition), state.Report.Rows+rows, total, state)
		},
	})
	return report, progress.stop(err)
}

// start makes lists of what would be null in JSON.
func (s *auditVerifyState) start() {
	if s.Report.Partitions == nil {
		s.Report.Partitions = []auditchain.PartitionReport{}
	}
	if s.Report.Findings == nil {
		s.Report.Findings = []auditchain.Finding{}
	}
}

// add keeps some findings: the checkpoint is small.
func (s *auditVerifyState) add(report *auditchain.Report) {
	s.Report.Rows += report.Rows
	s.Report.Found += report.Found
	s.Report.Partitions = append(s.Report.Partitions, report.Partitions...)
	s.Report.Findings = append(s.Report.Findings, report.Findings...)
	s.Report.Findings = s.Report.Findings[:min(len(s.Report.Findings), maxFindings)]
}

// findings says what is wrong with the trail.
func findings(report *auditchain.Report) string {
	var out strings.Builder
	fmt.Fprintf(&out, "the audit trail is not as it was written: %d findings", report.Found)
	named := report.Findings[:min(len(report.Findings), maxNamedFindings)]
	for i := range named {
		out.WriteString("; " + named[i].String())
	}
	if more := report.Found - int64(len(named)); more > 0 {
		fmt.Fprintf(&out, "; and %d more", more)
	}
	return out.String()
}
