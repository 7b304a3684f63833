// Package jobpage reads pages of jobs, newest first. The statement depends on the filters, so that each finds its way by an index: a collection's jobs have
// one of their own; of all jobs, those that went wrong and those of a type that succeeded have theirs, and those that are not finished are few.
package jobpage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// idSlack is how far a job's created_at may be from the time in its id: the clocks of machines differ.
const idSlack = time.Hour

// Query says which jobs are wanted. Nil and empty fields mean any.
type Query struct {
	// Member is whose collections' jobs are wanted, those that they own or edit.
	Member     *uuid.UUID
	Collection *uuid.UUID
	Types      []string
	States     []string
	// CreatedAfter is included, CreatedBefore is not.
	CreatedAfter, CreatedBefore *time.Time
	// Key is the idempotency key that Creator queued the job with; uuid.Nil is Atlas itself.
	Key     *string
	Creator uuid.UUID
	// Before is the id that the page before ended with; uuid.Max for the first page.
	Before uuid.UUID
	Size   int32
}

// Querier is a pool, a connection or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Read reads a page. Fields that a list has no use for, such as the checkpoint and the history, stay empty.
func Read(ctx context.Context, from Querier, q Query) ([]db.Job, error) {
	sql, args := Statement(q)
	rows, err := from.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	jobs, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	return jobs, nil
}

var columns = []string{
	"id", "type", "parameters", "collection_id", "state", "version", "attempt", "max_attempts", "priority", "run_at", "progress_done", "progress_total",
	"progress_message", "result", "error", "error_code", "cancel_requested_at", "created_by", "created_at", "updated_at", "started_at", "finished_at",
	"held",
}

func scan(row pgx.CollectableRow) (j db.Job, err error) {
	err = row.Scan(&j.ID, &j.Type, &j.Parameters, &j.CollectionID, &j.State, &j.Version, &j.Attempt, &j.MaxAttempts, &j.Priority, &j.RunAt, &j.ProgressDone,
		&j.ProgressTotal, &j.ProgressMessage, &j.Result, &j.Error, &j.ErrorCode, &j.CancelRequestedAt, &j.CreatedBy, &j.CreatedAt, &j.UpdatedAt, &j.StartedAt,
		&j.FinishedAt, &j.Held)
	return j, err
}

// statement collects the parameters of a statement while its text is written.
type statement struct {
	query Query
	args  []any
}

// bind adds a parameter and returns its name.
func (s *statement) bind(value any) string {
	s.args = append(s.args, value)
	return fmt.Sprintf("$%d", len(s.args))
}

// Statement is the page's statement. The size is part of the text: PostgreSQL plans for it. So are types and states, of which there are few: the partial
// indexes are for states that are written out.
func Statement(q Query) (sql string, args []any) {
	s := &statement{query: q}
	conditions := s.conditions()
	switch {
	case q.Collection != nil:
		sql = s.top("j.collection_id = "+s.bind(*q.Collection), conditions, s.types(), s.states(q.States))
	case q.Member != nil:
		sql = s.merged(fmt.Sprintf(`SELECT top.* FROM memberships m
JOIN collections c ON c.id = m.collection_id AND c.deleted_at IS NULL
CROSS JOIN LATERAL (%s) AS top
WHERE m.user_id = %s AND m.role IN ('owner', 'editor')`, s.top("j.collection_id = m.collection_id", conditions, s.types(), s.states(q.States)), s.bind(*q.Member)))
	case len(q.Types) == 0 && len(q.States) == 0, len(q.Types) == 0 && slices.Contains(q.States, "SUCCEEDED"):
		sql = s.top(conditions, s.states(q.States)) // most jobs are among them: the walk along the ids is short
	default:
		sql = s.merged(s.ways(conditions))
	}
	return sql, s.args
}

// merged is the top of several tops.
func (s *statement) merged(tops string) string {
	return fmt.Sprintf("%s\nORDER BY id DESC LIMIT %d", tops, s.query.Size)
}

// ways reads the top of each of the indexes by state.
func (s *statement) ways(conditions string) string {
	var ways []string
	wanted := func(state string) bool { return len(s.query.States) == 0 || slices.Contains(s.query.States, state) }
	for _, state := range []string{"QUEUED", "RUNNING"} {
		if wanted(state) {
			ways = append(ways, "("+s.top(conditions, s.types(), s.states([]string{state}))+")")
		}
	}
	if failed := slices.DeleteFunc([]string{"FAILED", "CANCELLED"}, func(state string) bool { return !wanted(state) }); len(failed) > 0 {
		ways = append(ways, "("+s.top(conditions, s.types(), "j.state IN ('FAILED', 'CANCELLED')", s.states(failed))+")")
	}
	if wanted("SUCCEEDED") { // with types, see Statement
		for _, name := range s.query.Types {
			ways = append(ways, "("+s.top(conditions, "j.type = "+quote(name), s.states([]string{"SUCCEEDED"}))+")")
		}
	}
	return "SELECT * FROM (" + strings.Join(ways, "\nUNION ALL ") + ") AS jobs"
}

// top is the newest jobs that meet conditions, some of which may be empty.
func (s *statement) top(conditions ...string) string {
	conditions = slices.DeleteFunc(conditions, func(c string) bool { return c == "" })
	return fmt.Sprintf("SELECT j.%s FROM jobs j WHERE %s ORDER BY j.id DESC LIMIT %d", strings.Join(columns, ", j."), strings.Join(conditions, " AND "), s.query.Size)
}

// conditions are those of every way.
func (s *statement) conditions() string {
	q, out := s.query, []string{"j.id < " + s.bind(s.query.Before)}
	if q.CreatedAfter != nil {
		out = append(out, "j.id >= "+s.bind(firstID(q.CreatedAfter.Add(-idSlack))), "j.created_at >= "+s.bind(*q.CreatedAfter))
	}
	if q.CreatedBefore != nil {
		out = append(out, "j.id < "+s.bind(firstID(q.CreatedBefore.Add(idSlack))), "j.created_at < "+s.bind(*q.CreatedBefore))
	}
	if q.Key != nil { // as the unique index has it
		out = append(out, "j.idempotency_key = "+s.bind(*q.Key),
			"coalesce(j.created_by, '00000000-0000-0000-0000-000000000000'::uuid) = "+s.bind(q.Creator))
	}
	return strings.Join(out, " AND ")
}

func (s *statement) types() string { return among("j.type", s.query.Types) }

func (s *statement) states(states []string) string { return among("j.state", states) }

func among(column string, values []string) string {
	if len(values) == 0 {
		return ""
	}
	quoted := make([]string, len(values))
	for i, value := range slices.Sorted(slices.Values(values)) {
		quoted[i] = quote(value)
	}
	quoted = slices.Compact(quoted)
	if len(quoted) == 1 {
		return column + " = " + quoted[0]
	}
	return column + " IN (" + strings.Join(quoted, ", ") + ")"
}

func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// firstID is the least UUIDv7 of a millisecond.
func firstID(at time.Time) uuid.UUID {
	var id uuid.UUID
	millis := max(at.UnixMilli(), 0)
	for i := range 6 {
		id[i] = byte(millis >> (40 - 8*i)) //nolint:gosec // a byte of it
	}
	return id
}
