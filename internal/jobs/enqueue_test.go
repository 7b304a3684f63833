package jobs_test

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/jobs/jobstest"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/telemetry"
)

// enqueue queues a job in a transaction of its own.
func enqueue(t *testing.T, pool *pgxpool.Pool, n jobs.NewJob) (job db.Job, created bool) {
	t.Helper()
	require.NoError(t, postgres.InTx(t.Context(), pool, func(tx pgx.Tx) (err error) {
		job, created, err = jobs.Enqueue(t.Context(), db.New(tx), n)
		return err
	}))
	return job, created
}

// change runs Cancel or Retry in a transaction of its own.
func change(t *testing.T, pool *pgxpool.Pool, what func(q *db.Queries) (db.Job, error)) (job db.Job, err error) {
	t.Helper()
	err = postgres.InTx(t.Context(), pool, func(tx pgx.Tx) (err error) {
		job, err = what(db.New(tx))
		return err
	})
	return job, err
}

func cancel(t *testing.T, pool *pgxpool.Pool, id uuid.UUID) (db.Job, error) {
	t.Helper()
	return change(t, pool, func(q *db.Queries) (db.Job, error) { return jobs.Cancel(t.Context(), q, id, nil) })
}

func retry(t *testing.T, pool *pgxpool.Pool, id uuid.UUID) (db.Job, error) {
	t.Helper()
	return change(t, pool, func(q *db.Queries) (db.Job, error) { return jobs.Retry(t.Context(), q, id, nil) })
}

func TestEnqueueWritesARowAndItsEvent(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	collection := seed.Collection(t)
	later := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	ctx := telemetry.WithTrace(t.Context(), telemetry.Trace{ID: "trace", Parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
	var job db.Job
	require.NoError(t, postgres.InTx(ctx, pool, func(tx pgx.Tx) (err error) {
		job, _, err = jobs.Enqueue(ctx, db.New(tx), jobs.NewJob{
			Type: "test", Parameters: map[string]int{"n": 1}, CollectionID: &collection, CreatedBy: &seed.User, Actor: &seed.User, Priority: 3, RunAt: later,
			MaxAttempts: 7,
		})
		return err
	}))
	require.Equal(t, "QUEUED", job.State)
	require.JSONEq(t, `{"n":1}`, string(job.Parameters))
	require.True(t, later.Equal(job.RunAt))
	require.EqualValues(t, 3, job.Priority)
	require.EqualValues(t, 7, job.MaxAttempts)
	require.Equal(t, "trace", *job.TraceID)
	var payload []byte
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT payload FROM outbox WHERE aggregate_id = $1", job.ID).Scan(&payload))
	require.NoError(t, event.Validate(payload))
	e, err := event.Decode(payload)
	require.NoError(t, err)
	require.Equal(t, event.JobCreated, e.EventType)
	require.Equal(t, seed.User, *e.ActorUserID)
	require.Equal(t, "trace", *e.TraceID)
	var data event.JobData
	require.NoError(t, json.Unmarshal(e.Data, &data))
	require.Equal(t, event.JobData{JobID: job.ID, EntityVersion: 1, JobType: "test", State: "QUEUED"}, data)

	undone := errors.New("undone")
	require.ErrorIs(t, postgres.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		_, _, err := jobs.Enqueue(t.Context(), db.New(tx), jobs.NewJob{Type: "test"})
		require.NoError(t, err)
		return undone
	}), undone)
	require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM jobs"))
	require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM outbox"))
}

func TestAUniqueKeyHoldsWhileTheJobIsUnfinished(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	const at = 8
	made := make([]db.Job, at)
	var group sync.WaitGroup
	for i := range at {
		group.Go(func() { made[i], _ = enqueue(t, pool, jobs.NewJob{Type: "test", UniqueKey: "one"}) })
	}
	group.Wait()
	for _, job := range made {
		require.Equal(t, made[0].ID, job.ID)
	}
	require.Equal(t, 1, count(t, pool, "SELECT count(*) FROM outbox"))

	_, err := cancel(t, pool, made[0].ID)
	require.NoError(t, err)
	second, created := enqueue(t, pool, jobs.NewJob{Type: "test", UniqueKey: "one"})
	require.True(t, created)
	require.NotEqual(t, made[0].ID, second.ID)
	_, err = retry(t, pool, made[0].ID)
	require.ErrorIs(t, err, jobs.ErrKeyTaken)
}

func TestAnIdempotencyKeyHoldsForEver(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	first, created := enqueue(t, pool, jobs.NewJob{Type: "test", IdempotencyKey: "k", CreatedBy: &seed.User})
	require.True(t, created)
	_, err := cancel(t, pool, first.ID)
	require.NoError(t, err)
	again, created := enqueue(t, pool, jobs.NewJob{Type: "test", IdempotencyKey: "k", CreatedBy: &seed.User})
	require.False(t, created)
	require.Equal(t, first.ID, again.ID)
	others, created := enqueue(t, pool, jobs.NewJob{Type: "test", IdempotencyKey: "k"})
	require.True(t, created)
	require.NotEqual(t, first.ID, others.ID)
}

func TestCancelAndRetryOfAQueuedJob(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	job := jobstest.Enqueue(t, indexingtest.NewSeed(t, pool), "test", nil, 1)
	_, err := retry(t, pool, job)
	require.ErrorIs(t, err, jobs.ErrNotFinished)
	row, err := cancel(t, pool, job)
	require.NoError(t, err)
	require.Equal(t, "CANCELLED", row.State)
	require.NotNil(t, row.FinishedAt)
	row, err = cancel(t, pool, job)
	require.ErrorIs(t, err, jobs.ErrFinished)
	require.Equal(t, "CANCELLED", row.State)
	row, err = retry(t, pool, job)
	require.NoError(t, err)
	require.Equal(t, "QUEUED", row.State)
	require.Nil(t, row.FinishedAt)
	require.Nil(t, row.CancelRequestedAt)
	require.Equal(t, []string{"CANCELLED", "QUEUED"}, jobstest.States(t, pool, job))
	_, err = cancel(t, pool, uuid.New())
	require.ErrorIs(t, err, jobs.ErrNotFound)
	_, err = retry(t, pool, uuid.New())
	require.ErrorIs(t, err, jobs.ErrNotFound)
}

func count(t *testing.T, pool *pgxpool.Pool, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), query, args...).Scan(&n))
	return n
}
