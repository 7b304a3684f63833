package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/telemetry"
)

// Errors of Cancel and Retry.
var (
	ErrNotFound    = errors.New("there is no such job")
	ErrFinished    = errors.New("the job is finished")
	ErrNotFinished = errors.New("the job has not failed and is not cancelled")
	ErrKeyTaken    = errors.New("an unfinished job has the same unique key")
)

// The priorities; the higher is claimed first.
const (
	MinPriority = -9
	MaxPriority = 9
)

// NewJob is what Enqueue makes a job of. Type is required.
type NewJob struct {
	Type string
	// Parameters become JSON; a json.RawMessage is taken as it is, nil means {}.
	Parameters   any
	CollectionID *uuid.UUID
	// CreatedBy is nil for the platform itself.
	CreatedBy *uuid.UUID
	// Actor is who caused the JobCreated event: CreatedBy, or nil where the platform acts for them.
	Actor *uuid.UUID
	// Priority is from MinPriority to MaxPriority.
	Priority int16
	// RunAt is when the job may start; zero means now.
	RunAt time.Time
	// MaxAttempts is the kind's; 0 means DefaultMaxAttempts.
	MaxAttempts int
	// UniqueKey, unless it is empty, keeps a second unfinished job with it from being made.
	UniqueKey string
	// IdempotencyKey, unless it is empty, keeps a second job of this creator with it from being made, ever.
	IdempotencyKey string
	// RequestHash is kept for whoever finds the job by its IdempotencyKey: it tells requests apart. It may be nil.
	RequestHash []byte
}

// Enqueue queues a job in the caller's transaction, with its JobCreated event and the trace of ctx; or returns the job that is there under one of
// its keys, and false. Call it last in the transaction, and nudge the workers after the commit.
func Enqueue(ctx context.Context, q *db.Queries, n NewJob) (job db.Job, created bool, err error) {
	return enqueue(ctx, q, n, nil)
}

// enqueue is Enqueue at a moment; nil means the database's now.
func enqueue(ctx context.Context, q *db.Queries, n NewJob, at *time.Time) (db.Job, bool, error) {
	arg, err := n.row(ctx, at)
	if err != nil {
		return db.Job{}, false, err
	}
	for {
		job, err := q.EnqueueJob(ctx, arg)
		switch {
		case err == nil:
			return job, true, writeEvent(ctx, q, event.JobCreated, &job, n.Actor)
		case !errors.Is(err, pgx.ErrNoRows):
			return job, false, fmt.Errorf("queue the job: %w", err)
		}
		job, err = q.FindJobByKeys(ctx, arg.IdempotencyKey, arg.CreatedBy, arg.UniqueKey)
		switch {
		case err == nil:
			return job, false, nil
		case !errors.Is(err, pgx.ErrNoRows): // else it has been finished since
			return job, false, fmt.Errorf("find the job with the same key: %w", err)
		}
	}
}

func (n NewJob) row(ctx context.Context, at *time.Time) (db.EnqueueJobParams, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return db.EnqueueJobParams{}, fmt.Errorf("make an id: %w", err)
	}
	parameters := json.RawMessage("{}")
	if n.Parameters != nil {
		if parameters, err = json.Marshal(n.Parameters); err != nil {
			return db.EnqueueJobParams{}, fmt.Errorf("encode the job's parameters: %w", err)
		}
	}
	arg := db.EnqueueJobParams{
		ID: id, Type: n.Type, Parameters: parameters, CollectionID: n.CollectionID, Priority: n.Priority,
		MaxAttempts: DefaultMaxAttempts, UniqueKey: orNil(n.UniqueKey), IdempotencyKey: orNil(n.IdempotencyKey), CreatedBy: n.CreatedBy, At: at,
		RequestHash: n.RequestHash,
	}
	if n.MaxAttempts > 0 {
		arg.MaxAttempts = int32(n.MaxAttempts) //nolint:gosec // a handful
	}
	if !n.RunAt.IsZero() {
		arg.RunAt = &n.RunAt
	}
	if t := telemetry.TraceFrom(ctx); t.ID != "" {
		arg.TraceID, arg.Traceparent = &t.ID, &t.Parent
	}
	return arg, nil
}

// Cancel cancels a queued job at once. A running one is asked to stop: its worker ends it, or the rescue when the worker is gone; asking twice is
// fine, and the first who asked is the actor of the event that tells of the end. A finished one is ErrFinished, with the job. Nudge the workers after the commit, with the word that a cancel waits.
func Cancel(ctx context.Context, q *db.Queries, id uuid.UUID, actor *uuid.UUID) (db.Job, error) {
	return cancelJob(ctx, q, id, actor, nil)
}

func cancelJob(ctx context.Context, q *db.Queries, id uuid.UUID, actor *uuid.UUID, at *time.Time) (db.Job, error) {
	job, err := lock(ctx, q, id)
	if err != nil {
		return job, err
	}
	switch {
	case job.State == stateQueued:
		if job, err = q.CancelQueuedJob(ctx, at, actor, id); err != nil {
			return job, fmt.Errorf("cancel the job: %w", err)
		}
		return job, writeEvent(ctx, q, event.JobUpdated, &job, actor)
	case job.State != stateRunning:
		return job, ErrFinished
	case job.CancelRequestedAt == nil:
		if job, err = q.RequestJobCancel(ctx, at, actor, id); err != nil {
			return job, fmt.Errorf("ask for the job's end: %w", err)
		}
	}
	return job, nil
}

// Retry puts a failed or cancelled job back into the queue, with all its attempts. It goes on from its checkpoint, and its history stays. Another
// state is ErrNotFinished, with the job; an unfinished job with its unique key is ErrKeyTaken, and ends the transaction.
func Retry(ctx context.Context, q *db.Queries, id uuid.UUID, actor *uuid.UUID) (db.Job, error) {
	return retryJob(ctx, q, id, actor, nil)
}

func retryJob(ctx context.Context, q *db.Queries, id uuid.UUID, actor *uuid.UUID, at *time.Time) (db.Job, error) {
	job, err := lock(ctx, q, id)
	if err != nil {
		return job, err
	}
	if job.State != stateFailed && job.State != stateCancelled {
		return job, ErrNotFinished
	}
	job, err = q.RequeueJob(ctx, at, id)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.ConstraintName == "jobs_unique_key" {
		return job, ErrKeyTaken
	}
	if err != nil {
		return job, fmt.Errorf("queue the job again: %w", err)
	}
	return job, writeEvent(ctx, q, event.JobUpdated, &job, actor)
}

// lock reads a job for a change.
func lock(ctx context.Context, q *db.Queries, id uuid.UUID) (db.Job, error) {
	job, err := q.LockJob(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return job, ErrNotFound
	}
	if err != nil {
		return job, fmt.Errorf("read the job: %w", err)
	}
	return job, nil
}

// writeEvent adds an event of somebody's deed to the outbox.
func writeEvent(ctx context.Context, q *db.Queries, eventType event.Type, job *db.Job, actor *uuid.UUID) error {
	trace := orNil(telemetry.TraceFrom(ctx).ID)
	e, err := event.New(eventType, event.Entity{Type: event.EntityJob, ID: job.ID, CollectionID: job.CollectionID},
		event.Origin{ActorUserID: actor, TraceID: trace}, job.UpdatedAt, data(job))
	if err != nil {
		return err
	}
	return postgres.WriteEvent(ctx, q, e)
}

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
