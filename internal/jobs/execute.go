package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/telemetry"
)

// Execution is one attempt at a job.
type Execution struct {
	// Job is the row as it was claimed.
	Job db.Job

	engine  *Engine
	owner   string
	message atomic.Pointer[string]

	ctx     context.Context //nolint:containedctx // the attempt's, from its claim to its end
	cancel  context.CancelCauseFunc
	renewed time.Time // guarded by leases.mu

	// What came of it, once it has ended.
	took   time.Duration
	result any
	err    error
}

// Report sets the message that is shown with the progress, from the next Save on.
func (x *Execution) Report(message string) { x.message.Store(&message) }

// Save stores progress and a checkpoint, and renews the lease. It returns ErrLeaseLost when the job is not this worker's any more, ErrCancelled
// when somebody cancelled it, and ErrHeld when it is to wait: what it saves with that is where it goes on.
func (x *Execution) Save(ctx context.Context, done, total int64, checkpoint any) error {
	return x.SaveIn(ctx, x.engine.queries, done, total, checkpoint)
}

// SaveIn is Save in the transaction of the work that it counts: both are done or none.
func (x *Execution) SaveIn(ctx context.Context, q *db.Queries, done, total int64, checkpoint any) error {
	raw, err := encode(checkpoint)
	if err != nil {
		return fmt.Errorf("encode checkpoint: %w", err)
	}
	message := x.message.Load()
	if message != nil {
		valid := storable(*message)
		message = &valid
	}
	row, err := q.SaveJobProgress(ctx, db.SaveJobProgressParams{
		ProgressDone: done, ProgressTotal: total, Message: message, Checkpoint: raw, At: x.engine.clock.at(), LeaseSeconds: x.engine.cfg.Lease.Seconds(),
		ID: x.Job.ID, Attempt: x.Job.Attempt, Owner: x.owner,
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ErrLeaseLost
	case err != nil:
		return fmt.Errorf("save progress: %w", err)
	case row.Cancelled:
		x.cancel(ErrCancelled)
		return ErrCancelled
	case row.Held:
		x.cancel(ErrHeld)
		return ErrHeld
	}
	return nil
}

// execute runs one attempt. Its outcome is settled later.
func (e *Engine) execute(x *Execution) {
	log := e.deps.Logger
	ctx, span := telemetry.StartSpan(x.ctx, trace.SpanKindConsumer, "job "+x.Job.Type, attribute.String("atlas.job.type", x.Job.Type),
		attribute.String("atlas.job.id", x.Job.ID.String()), attribute.Int("atlas.job.attempt", int(x.Job.Attempt)))
	defer span.End()
	log.InfoContext(ctx, "job started", "job_id", x.Job.ID, "type", x.Job.Type, "attempt", x.Job.Attempt)
	started := time.Now()
	x.result, x.err = e.runTask(ctx, x)
	x.took = time.Since(started)
	if x.err != nil {
		span.Fail("the attempt ended with an error") // which may hold what is the user's
	}
}

// ended tells whether the attempt ended for this reason.
func (x *Execution) ended(why error) bool {
	return errors.Is(x.err, why) || errors.Is(context.Cause(x.ctx), why)
}

// runTask turns a panic into an error. The stack goes to the log only: the job's error is shown to users.
func (e *Engine) runTask(ctx context.Context, x *Execution) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			e.deps.Logger.ErrorContext(ctx, "the task panicked", "panic", p, "stack", string(debug.Stack()), "job_id", x.Job.ID, "type", x.Job.Type,
				"attempt", x.Job.Attempt)
			err = Errorf(CodePanic, "the task panicked: %v", p)
		}
	}()
	return e.tasks[x.Job.Type].Run(ctx, x)
}

// traced returns a context with the trace of the request that queued the job: what is logged and written with it belongs to that request.
func traced(ctx context.Context, job *db.Job) context.Context {
	var t telemetry.Trace
	if job.TraceID != nil {
		t.ID = *job.TraceID
	}
	if job.Traceparent != nil {
		t.Parent = *job.Traceparent
	}
	return telemetry.WithTrace(ctx, t)
}
