package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/telemetry"
)

// ErrLeaseLost means that the job belongs to another worker, or to nobody, by now. What this worker does for it is void.
var ErrLeaseLost = errors.New("the job's lease is lost")

type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// Permanent marks an error that no further attempt can mend: the job fails at once.
func Permanent(err error) error { return permanentError{err} }

// Execution is one attempt at a job.
type Execution struct {
	// Job is the row as it was claimed.
	Job db.Job

	queries *db.Queries
	lease   time.Duration
	owner   string
}

// Save stores progress and a checkpoint, and renews the lease. It returns ErrLeaseLost when the job is not this worker's any more.
func (x *Execution) Save(ctx context.Context, done, total int64, checkpoint any) error {
	return x.SaveIn(ctx, x.queries, done, total, checkpoint)
}

// SaveIn is Save in the transaction of the work that it counts: both are done or none.
func (x *Execution) SaveIn(ctx context.Context, q *db.Queries, done, total int64, checkpoint any) error {
	raw, err := json.Marshal(checkpoint)
	if err != nil {
		return fmt.Errorf("encode checkpoint: %w", err)
	}
	rows, err := q.SaveJobProgress(ctx, db.SaveJobProgressParams{
		ProgressDone: done, ProgressTotal: total, Checkpoint: raw, LeaseSeconds: x.lease.Seconds(),
		ID: x.Job.ID, Attempt: x.Job.Attempt, Owner: x.owner,
	})
	if err != nil {
		return fmt.Errorf("save progress: %w", err)
	}
	if rows == 0 {
		return ErrLeaseLost
	}
	return nil
}

// execute runs one attempt and settles its outcome.
func (s *Service) execute(ctx context.Context, job db.Job) {
	ctx = traced(ctx, &job)
	logger := s.deps.Logger.With("job_id", job.ID, "type", job.Type, "attempt", job.Attempt)
	logger.InfoContext(ctx, "job started")
	started := time.Now()
	x := &Execution{Job: job, queries: db.New(s.deps.Pool), lease: s.engine.Lease, owner: s.owner}

	attempt, cancel := context.WithCancelCause(ctx)
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		s.heartbeat(attempt, x, cancel)
	}()
	result, err := runTask(attempt, logger, s.tasks[job.Type], x)
	lost := errors.Is(err, ErrLeaseLost) || errors.Is(context.Cause(attempt), ErrLeaseLost)
	cancel(nil)
	<-beating

	outcome := "lease_lost"
	if !lost {
		// Settling must not be cut short by the end of ctx: it is how a job is handed back.
		outcome, err = s.settle(context.WithoutCancel(ctx), x, result, err, ctx.Err() != nil)
	}
	s.metrics.outcomes.WithLabelValues(job.Type, outcome).Inc()
	s.metrics.seconds.WithLabelValues(job.Type).Observe(time.Since(started).Seconds())
	if err != nil {
		logger.WarnContext(ctx, "job attempt ended", "outcome", outcome, "error", err)
		return
	}
	logger.InfoContext(ctx, "job attempt ended", "outcome", outcome)
}

// runTask turns a panic into an error. The stack goes to the log only: the job's error is shown to users.
func runTask(ctx context.Context, logger *slog.Logger, task Task, x *Execution) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			logger.ErrorContext(ctx, "the task panicked", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("the task panicked: %v", p)
		}
	}()
	return task.Run(ctx, x)
}

// heartbeat renews the lease until ctx is done. It cancels the attempt when the lease is lost, or may be.
func (s *Service) heartbeat(ctx context.Context, x *Execution, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(s.engine.Lease / 3)
	defer ticker.Stop()
	renewed := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		asked := time.Now()
		limited, stop := context.WithTimeout(ctx, s.engine.Lease/3)
		rows, err := x.queries.RenewJobLease(limited, db.RenewJobLeaseParams{
			LeaseSeconds: s.engine.Lease.Seconds(), ID: x.Job.ID, Attempt: x.Job.Attempt, Owner: x.owner,
		})
		stop()
		switch {
		case err == nil && rows == 1:
			renewed = asked
		case err == nil, time.Since(renewed) >= s.engine.Lease:
			cancel(ErrLeaseLost)
			return
		}
	}
}

// settle writes the outcome of an attempt. While the database is away it keeps trying for the length of a lease: after that the job is somebody
// else's.
func (s *Service) settle(ctx context.Context, x *Execution, result any, taskErr error, draining bool) (outcome string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.engine.Lease)
	defer cancel()
	outcome, change := s.verdict(x, result, taskErr, draining)
	_, err = backoff.Retry(ctx, func() (struct{}, error) {
		err := postgres.InTx(ctx, s.deps.Pool, func(tx pgx.Tx) error {
			q := db.New(tx)
			job, err := change(ctx, q)
			if err != nil {
				return err
			}
			return writeUpdates(ctx, q, []db.Job{job})
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return struct{}{}, backoff.Permanent(ErrLeaseLost)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(backoff.NewExponentialBackOff()))
	switch {
	case errors.Is(err, ErrLeaseLost):
		return "lease_lost", err
	case err != nil:
		return "unsettled", fmt.Errorf("settle the job: %w", err)
	}
	return outcome, taskErr
}

type transition func(ctx context.Context, q *db.Queries) (db.Job, error)

// verdict picks the transition that an attempt's end calls for.
func (s *Service) verdict(x *Execution, result any, taskErr error, draining bool) (string, transition) {
	id, attempt := x.Job.ID, x.Job.Attempt
	var permanent permanentError
	switch {
	case taskErr == nil:
		raw, err := json.Marshal(result)
		if err != nil {
			return s.verdict(x, nil, Permanent(fmt.Errorf("encode the job's result: %w", err)), draining)
		}
		return "succeeded", func(ctx context.Context, q *db.Queries) (db.Job, error) {
			return q.CompleteJob(ctx, db.CompleteJobParams{Result: raw, ID: id, Attempt: attempt, Owner: s.owner})
		}
	case draining && !errors.As(taskErr, &permanent): // it was interrupted: whatever it says about that
		return "handed_back", func(ctx context.Context, q *db.Queries) (db.Job, error) {
			return q.HandBackJob(ctx, id, attempt, s.owner)
		}
	case errors.As(taskErr, &permanent) || attempt >= x.Job.MaxAttempts:
		return "failed", func(ctx context.Context, q *db.Queries) (db.Job, error) {
			return q.FailJob(ctx, db.FailJobParams{Error: taskErr.Error(), ID: id, Attempt: attempt, Owner: s.owner})
		}
	}
	wait := s.engine.retryWait(attempt)
	return "retried", func(ctx context.Context, q *db.Queries) (db.Job, error) {
		return q.RetryJob(ctx, db.RetryJobParams{Error: taskErr.Error(), WaitSeconds: wait.Seconds(), ID: id, Attempt: attempt, Owner: s.owner})
	}
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

// writeUpdates adds a JobUpdated event for each job to the outbox. The actor is nil: the platform did it.
func writeUpdates(ctx context.Context, q *db.Queries, jobs []db.Job) error {
	for i := range jobs {
		job := &jobs[i]
		e, err := event.New(event.JobUpdated, event.Entity{Type: event.EntityJob, ID: job.ID, CollectionID: job.CollectionID}, event.Origin{TraceID: job.TraceID},
			job.UpdatedAt, event.JobData{
				JobID: job.ID, EntityVersion: job.Version, JobType: job.Type, State: job.State, Attempt: int(job.Attempt), Error: job.Error,
			})
		if err != nil {
			return err
		}
		if err := postgres.WriteEvent(traced(ctx, job), q, e); err != nil {
			return err
		}
	}
	return nil
}
