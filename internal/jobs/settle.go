package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// settleBatch is how many attempts are settled by one statement.
const settleBatch = 1000

// How an attempt ended. The first four are what a worker asks for; the row may say cancelled instead. The last one is never written by the worker.
const (
	outcomeSucceeded  = "succeeded"
	outcomeRetried    = "retried"
	outcomeFailed     = "failed"
	outcomeHandedBack = "handed_back"
	outcomeCancelled  = "cancelled"
	outcomeLeaseLost  = "lease_lost"
	outcomeUnsettled  = "unsettled"
)

// verdict is what becomes of a job after an attempt.
type verdict struct {
	outcome string
	result  string // JSON; empty means none
	err     string
	code    string
	wait    time.Duration
}

// settleAll settles what has ended, as much at a time as there is, until nothing can end any more.
func (e *Engine) settleAll(ctx context.Context) {
	for x := range e.ended {
		batch := append(make([]*Execution, 0, len(e.ended)+1), x)
		for more := true; more && len(batch) < settleBatch; {
			select {
			case x, open := <-e.ended:
				if more = open; open {
					batch = append(batch, x)
				}
			default:
				more = false
			}
		}
		e.settle(ctx, batch)
	}
}

// settle writes the outcomes of attempts, with their events. While the database is away it keeps trying for the length of a lease: after that the
// jobs are somebody else's. A job is done only when its row says so.
func (e *Engine) settle(ctx context.Context, batch []*Execution) {
	standing := make([]*Execution, 0, len(batch))
	for _, x := range batch {
		if x.ended(ErrLeaseLost) {
			e.conclude(x, outcomeLeaseLost, ErrLeaseLost)
		} else {
			standing = append(standing, x)
		}
	}
	if len(standing) == 0 {
		return
	}
	verdicts := make([]verdict, len(standing))
	for i, x := range standing {
		verdicts[i] = e.judge(x)
	}
	e.settleAs(ctx, standing, verdicts)
}

func (e *Engine) settleAs(ctx context.Context, batch []*Execution, verdicts []verdict) {
	states, err := backoff.Retry(ctx, func() (map[leaseKey]string, error) {
		states, err := e.write(ctx, batch, verdicts)
		var refused *pgconn.PgError
		if errors.As(err, &refused) && strings.HasPrefix(refused.Code, "22") { // data exception: no further attempt helps
			err = backoff.Permanent(err)
		}
		return states, err
	}, backoff.WithBackOff(backoff.NewExponentialBackOff()), backoff.WithMaxElapsedTime(e.cfg.Lease))
	var refused *pgconn.PgError
	switch {
	case err == nil:
		e.settled(batch, verdicts, states)
	case !errors.As(err, &refused) || !strings.HasPrefix(refused.Code, "22"):
		for _, x := range batch {
			e.conclude(x, outcomeUnsettled, fmt.Errorf("settle the job: %w", err))
		}
	case len(batch) == 1 && verdicts[0].outcome == outcomeFailed && verdicts[0].result != "": // the error says more than a result that the database can't store
		verdicts[0].result = ""
		e.settleAs(ctx, batch, verdicts)
	case len(batch) == 1: // the same, where there is no error
		e.settleAs(ctx, batch, []verdict{{outcome: outcomeFailed, code: CodeInvalidResult, err: "the result can't be stored: " + storable(refused.Message)}})
	default: // somebody's: each for itself
		for i := range batch {
			e.settleAs(ctx, batch[i:i+1], verdicts[i:i+1])
		}
	}
}

// write is one transaction: the states and their events. It returns the new states of those whose lease stood.
func (e *Engine) write(ctx context.Context, batch []*Execution, verdicts []verdict) (states map[leaseKey]string, err error) {
	ctx, cancel := e.limited(ctx)
	defer cancel()
	n := len(batch)
	arg := db.SettleJobsParams{
		At: e.clock.at(), Ids: make([]uuid.UUID, n), Attempts: make([]int32, n), Owners: make([]string, n), Outcomes: make([]string, n),
		Results: make([]string, n), Errors: make([]string, n), ErrorCodes: make([]string, n), WaitSeconds: make([]float64, n),
	}
	claimed := make(map[leaseKey]*db.Job, n)
	for i, x := range batch {
		v := &verdicts[i]
		arg.Ids[i], arg.Attempts[i], arg.Owners[i] = x.Job.ID, x.Job.Attempt, x.owner
		arg.Outcomes[i], arg.Results[i], arg.Errors[i], arg.ErrorCodes[i], arg.WaitSeconds[i] = v.outcome, v.result, v.err, v.code, v.wait.Seconds()
		claimed[leaseKey{x.Job.ID, x.owner}] = &x.Job
	}
	states = make(map[leaseKey]string, n)
	err = postgres.InTx(ctx, e.deps.Pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		rows, err := q.SettleJobs(ctx, arg)
		if err != nil {
			return fmt.Errorf("settle jobs: %w", err)
		}
		changed := make([]db.Job, len(rows))
		for i := range rows {
			row, key := &rows[i], leaseKey{rows[i].ID, rows[i].Owner}
			before := claimed[key]
			changed[i] = db.Job{
				ID: row.ID, Type: before.Type, CollectionID: before.CollectionID, TraceID: before.TraceID, Traceparent: before.Traceparent,
				State: row.State, Held: row.Held, Version: row.Version, Attempt: row.Attempt, Error: row.Error, UpdatedAt: row.UpdatedAt,
				CancelRequestedBy: row.CancelRequestedBy,
			}
			states[key] = row.State
		}
		return writeUpdates(ctx, q, changed)
	})
	return states, err
}

// settled says what came of attempts whose outcomes are written.
func (e *Engine) settled(batch []*Execution, verdicts []verdict, states map[leaseKey]string) {
	again, retried := false, false
	for i, x := range batch {
		state, stood := states[leaseKey{x.Job.ID, x.owner}]
		switch {
		case !stood:
			e.conclude(x, outcomeLeaseLost, ErrLeaseLost)
		case state == stateCancelled:
			e.conclude(x, outcomeCancelled, x.err)
		default:
			e.conclude(x, verdicts[i].outcome, x.err)
		}
		// One more of a limited kind may run, here or elsewhere; and others take what a draining worker hands back.
		retried = retried || verdicts[i].outcome == outcomeRetried
		again = again || e.kinds[x.Job.Type].Concurrency > 0 || verdicts[i].outcome == outcomeHandedBack
	}
	if again || retried { // the queue's next moment is another one now
		e.Nudge()
	}
	if again {
		e.waker.Nudge()
	}
}

// conclude ends an attempt for this worker.
func (e *Engine) conclude(x *Execution, outcome string, err error) {
	ctx := x.ctx
	e.release(x)
	e.metrics.outcomes.WithLabelValues(x.Job.Type, outcome).Inc()
	e.metrics.seconds.WithLabelValues(x.Job.Type).Observe(x.took.Seconds())
	if err != nil {
		e.deps.Logger.WarnContext(ctx, "job attempt ended", "job_id", x.Job.ID, "type", x.Job.Type, "attempt", x.Job.Attempt, "outcome", outcome, "error", err)
		return
	}
	e.deps.Logger.InfoContext(ctx, "job attempt ended", "job_id", x.Job.ID, "type", x.Job.Type, "attempt", x.Job.Attempt, "outcome", outcome)
}

// judge picks the outcome that an attempt's end calls for.
func (e *Engine) judge(x *Execution) verdict {
	err := x.err
	if err == nil {
		raw, encodeErr := encode(x.result)
		if encodeErr == nil {
			return verdict{outcome: outcomeSucceeded, result: string(raw)}
		}
		err = Permanent(Errorf(CodeInvalidResult, "encode the job's result: %w", encodeErr))
		x.err = err
	}
	v := verdict{err: storable(err.Error()), code: storable(CodeOf(err))}
	switch {
	case x.ended(ErrCancelled): // the row says so too
		return verdict{outcome: outcomeHandedBack}
	case isPermanent(err):
		v.outcome = outcomeFailed
	case isLater(err):
		v.outcome, v.wait = outcomeHandedBack, e.cfg.laterWait()
	case x.ctx.Err() != nil: // a drain interrupted it: whatever it says about that
		return verdict{outcome: outcomeHandedBack}
	case x.Job.Attempt >= x.Job.MaxAttempts:
		v.outcome = outcomeFailed
	default:
		v.outcome, v.wait = outcomeRetried, e.cfg.retryWait(x.Job.Attempt)
	}
	if v.outcome == outcomeFailed && x.result != nil {
		if raw, err := encode(x.result); err == nil { // else the error has to do
			v.result = string(raw)
		}
	}
	return v
}

// writeUpdates adds a JobUpdated event for each job to the outbox. The actor is nil, as the platform did it: but for a cancel, which is the deed of
// whoever asked for it.
func writeUpdates(ctx context.Context, q *db.Queries, jobs []db.Job) error {
	if len(jobs) == 0 {
		return nil
	}
	rows := make([]db.InsertOutboxManyParams, len(jobs))
	for i := range jobs {
		job := &jobs[i]
		origin := event.Origin{TraceID: job.TraceID}
		if job.State == stateCancelled {
			origin.ActorUserID = job.CancelRequestedBy
		}
		e, err := event.New(event.JobUpdated, event.Entity{Type: event.EntityJob, ID: job.ID, CollectionID: job.CollectionID}, origin, job.UpdatedAt, data(job))
		if err != nil {
			return err
		}
		if rows[i], err = postgres.OutboxRow(traced(ctx, job), e); err != nil {
			return err
		}
	}
	if _, err := q.InsertOutboxMany(ctx, rows); err != nil {
		return fmt.Errorf("write the events of %d jobs to the outbox: %w", len(rows), err)
	}
	return nil
}

// encode makes JSON of what a task gives. PostgreSQL takes no NULs in it, which may come from whatever the task reads: they become what storable makes of
// them.
func encode(value any) ([]byte, error) {
	raw, err := json.Marshal(value)
	if err == nil && bytes.Contains(raw, []byte(`\u0000`)) {
		raw = []byte(withoutNULs.Replace(string(raw)))
	}
	return raw, err //nolint:wrapcheck // by the caller, who knows what it is
}

// withoutNULs knows an escaped backslash from one that escapes.
var withoutNULs = strings.NewReplacer(`\\`, `\\`, `\u0000`, `\ufffd`)

// storable is text that PostgreSQL takes.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
