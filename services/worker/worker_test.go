package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/services/worker"
)

const patience = 30 * time.Second

// fast is an engine for tests: nothing waits long, but a lease outlives a slow machine's hiccups.
func fast() worker.Engine {
	return worker.Engine{PollInterval: 5 * time.Millisecond, Lease: 3 * time.Second, RetryInitial: 5 * time.Millisecond, RetryMax: 10 * time.Millisecond}
}

func newWorker(t *testing.T, pool *pgxpool.Pool, engine worker.Engine, task worker.TaskFunc) *worker.Service {
	t.Helper()
	return worker.New(worker.Config{Engine: engine}, worker.Deps{
		Logger: kafkatest.Logger(t), Pool: pool, Tasks: map[string]worker.Task{"test": task},
	})
}

func enqueue(t *testing.T, seed *indexingtest.Seed, jobType string, collection *uuid.UUID, maxAttempts int) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	seed.Exec(t, "INSERT INTO jobs (id, type, collection_id, max_attempts) VALUES ($1, $2, $3, $4)", id, jobType, collection, maxAttempts)
	return id
}

type jobRow struct {
	State      string
	Attempt    int
	Version    int64
	Error      *string
	Result     json.RawMessage
	Done       int64
	Total      int64
	LeaseOwner *string
	Finished   *time.Time
}

func read(t *testing.T, pool *pgxpool.Pool, id uuid.UUID) (j jobRow) {
	t.Helper()
	require.NoError(t, pool.QueryRow(context.Background(), `SELECT state, attempt, version, error, result, progress_done, progress_total, lease_owner,
		finished_at FROM jobs WHERE id = $1`, id).
		Scan(&j.State, &j.Attempt, &j.Version, &j.Error, &j.Result, &j.Done, &j.Total, &j.LeaseOwner, &j.Finished))
	return j
}

func becomes(t *testing.T, pool *pgxpool.Pool, id uuid.UUID, state string) jobRow {
	t.Helper()
	require.Eventually(t, func() bool { return read(t, pool, id).State == state }, patience, 5*time.Millisecond, "job becomes %s", state)
	return read(t, pool, id)
}

// states returns the states that the job's events announced, in order, and checks each event.
func states(t *testing.T, pool *pgxpool.Pool, id uuid.UUID) []string {
	t.Helper()
	rows, err := pool.Query(context.Background(), "SELECT payload FROM outbox WHERE aggregate_id = $1 ORDER BY id", id)
	require.NoError(t, err)
	defer rows.Close()
	var out []string
	var latest int64
	for rows.Next() {
		var payload []byte
		require.NoError(t, rows.Scan(&payload))
		require.NoError(t, event.Validate(payload))
		e, err := event.Decode(payload)
		require.NoError(t, err)
		require.Equal(t, event.JobUpdated, e.EventType)
		require.Nil(t, e.ActorUserID)
		var data event.JobData
		require.NoError(t, json.Unmarshal(e.Data, &data))
		require.Greater(t, data.EntityVersion, latest)
		latest = data.EntityVersion
		out = append(out, data.State)
	}
	require.NoError(t, rows.Err())
	return out
}

func TestAPanicFailsTheAttemptWithoutItsStack(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	id := enqueue(t, indexingtest.NewSeed(t, pool), "test", nil, 1)
	kafkatest.Start(t, newWorker(t, pool, fast(), func(context.Context, *worker.Execution) (any, error) { panic("boom") }).Run)
	job := becomes(t, pool, id, "FAILED")
	require.Equal(t, "the task panicked: boom", *job.Error) // users read it
}

func TestAJobSucceeds(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	id := enqueue(t, seed, "test", nil, 3)
	other := enqueue(t, seed, "of a newer version", nil, 3)
	kafkatest.Start(t, newWorker(t, pool, fast(), func(ctx context.Context, x *worker.Execution) (any, error) {
		return map[string]int{"answer": 42}, x.Save(ctx, 5, 10, "here")
	}).Run)
	job := becomes(t, pool, id, "SUCCEEDED")
	require.Equal(t, 1, job.Attempt)
	require.JSONEq(t, `{"answer":42}`, string(job.Result))
	require.EqualValues(t, 5, job.Done)
	require.EqualValues(t, 10, job.Total)
	require.Nil(t, job.LeaseOwner)
	require.NotNil(t, job.Finished)
	require.Equal(t, []string{"RUNNING", "SUCCEEDED"}, states(t, pool, id))
	require.Equal(t, "QUEUED", read(t, pool, other).State)
}

func TestAFailingJobIsRetriedUntilItsAttemptsAreUsedUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err      error
		attempts int
		states   []string
	}{
		"passing":   {errors.New("away"), 2, []string{"RUNNING", "QUEUED", "RUNNING", "FAILED"}},
		"permanent": {worker.Permanent(errors.New("hopeless")), 1, []string{"RUNNING", "FAILED"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t)
			id := enqueue(t, indexingtest.NewSeed(t, pool), "test", nil, 2)
			kafkatest.Start(t, newWorker(t, pool, fast(), func(context.Context, *worker.Execution) (any, error) { return nil, c.err }).Run)
			job := becomes(t, pool, id, "FAILED")
			require.Equal(t, c.attempts, job.Attempt)
			require.Equal(t, c.err.Error(), *job.Error)
			require.Equal(t, c.states, states(t, pool, id))
		})
	}
}

func TestAPanicIsAFailure(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	id := enqueue(t, indexingtest.NewSeed(t, pool), "test", nil, 1)
	kafkatest.Start(t, newWorker(t, pool, fast(), func(context.Context, *worker.Execution) (any, error) { panic("ouch") }).Run)
	require.Contains(t, *becomes(t, pool, id, "FAILED").Error, "ouch")
}

func TestAWorkerThatLostItsLeaseCannotFinish(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	id := enqueue(t, seed, "test", nil, 5)
	var calls atomic.Int32
	started, release, saved := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	task := func(ctx context.Context, x *worker.Execution) (any, error) {
		if calls.Add(1) > 1 {
			return "the second", nil
		}
		close(started)
		<-release // deaf to ctx, as a stalled process is
		saved <- x.Save(ctx, 1, 1, nil)
		return "the first", nil
	}
	engine := fast()
	engine.Concurrency = 1
	zombie := newWorker(t, pool, engine, task)
	stop := kafkatest.Start(t, zombie.Run)
	<-started
	// The machine slept: the lease ran out, and the row shows it.
	seed.Exec(t, "UPDATE jobs SET lease_expires_at = now() - interval '1 second' WHERE id = $1", id)
	seed.Exec(t, "UPDATE jobs SET state = 'QUEUED', lease_owner = NULL, lease_expires_at = NULL WHERE id = $1", id)
	kafkatest.Start(t, newWorker(t, pool, engine, task).Run)
	require.JSONEq(t, `"the second"`, string(becomes(t, pool, id, "SUCCEEDED").Result))
	close(release)
	err := <-saved
	require.True(t, errors.Is(err, worker.ErrLeaseLost) || errors.Is(err, context.Canceled), err)
	stop()
	job := read(t, pool, id)
	require.JSONEq(t, `"the second"`, string(job.Result))
	require.Equal(t, 2, job.Attempt)
	require.Equal(t, []string{"RUNNING", "RUNNING", "SUCCEEDED"}, states(t, pool, id))
}

func TestAJobOfADeadWorkerIsRescued(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	again, spent := enqueue(t, seed, "test", nil, 2), enqueue(t, seed, "test", nil, 1)
	seed.Exec(t, "UPDATE jobs SET state = 'RUNNING', attempt = 1, lease_owner = 'dead', lease_expires_at = now() - interval '1 second'")
	engine := fast()
	engine.Lease = 300 * time.Millisecond
	kafkatest.Start(t, newWorker(t, pool, engine, func(context.Context, *worker.Execution) (any, error) { return nil, nil }).Run)
	require.Equal(t, 2, becomes(t, pool, again, "SUCCEEDED").Attempt)
	require.Equal(t, []string{"QUEUED", "RUNNING", "SUCCEEDED"}, states(t, pool, again))
	require.Contains(t, *becomes(t, pool, spent, "FAILED").Error, "lease")
	require.Equal(t, []string{"FAILED"}, states(t, pool, spent))
}

func TestHeartbeatsKeepALongJob(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	id := enqueue(t, indexingtest.NewSeed(t, pool), "test", nil, 5)
	engine := fast()
	engine.Lease = 600 * time.Millisecond
	task := func(ctx context.Context, _ *worker.Execution) (any, error) {
		timer := time.NewTimer(3 * engine.Lease)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			return nil, nil
		}
	}
	for range 2 {
		kafkatest.Start(t, newWorker(t, pool, engine, task).Run)
	}
	require.Equal(t, 1, becomes(t, pool, id, "SUCCEEDED").Attempt)
}

func TestADrainingWorkerHandsItsJobBack(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	id := enqueue(t, indexingtest.NewSeed(t, pool), "test", nil, 1)
	started := make(chan struct{})
	stop := kafkatest.Start(t, newWorker(t, pool, fast(), func(ctx context.Context, x *worker.Execution) (any, error) {
		if err := x.Save(ctx, 3, 9, "halfway"); err != nil {
			return nil, err
		}
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	}).Run)
	<-started
	stop()
	job := read(t, pool, id)
	require.Equal(t, "QUEUED", job.State)
	require.Zero(t, job.Attempt)
	kafkatest.Start(t, newWorker(t, pool, fast(), func(_ context.Context, x *worker.Execution) (any, error) {
		return x.Job.Checkpoint, nil
	}).Run)
	job = becomes(t, pool, id, "SUCCEEDED")
	require.Equal(t, 1, job.Attempt)
	require.JSONEq(t, `"halfway"`, string(job.Result))
	require.Equal(t, []string{"RUNNING", "QUEUED", "RUNNING", "SUCCEEDED"}, states(t, pool, id))
}

func TestTwoWorkersNeverRunTheSameJob(t *testing.T) {
	t.Parallel()
	const jobs = 60
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	for range jobs {
		enqueue(t, seed, "test", nil, 1)
	}
	var runs atomic.Int32
	for range 2 {
		kafkatest.Start(t, newWorker(t, pool, fast(), func(context.Context, *worker.Execution) (any, error) {
			runs.Add(1)
			return nil, nil
		}).Run)
	}
	require.Eventually(t, func() bool {
		var n int
		require.NoError(t, pool.QueryRow(context.Background(), "SELECT count(*) FROM jobs WHERE state = 'SUCCEEDED'").Scan(&n))
		return n == jobs
	}, patience, 10*time.Millisecond)
	require.EqualValues(t, jobs, runs.Load())
}

func TestReindexSendsACollectionAgain(t *testing.T) {
	t.Parallel()
	pool, es := pgtest.New(t), indexingtest.Client(t)
	alias, seed := indexingtest.NewAlias(t, es), indexingtest.NewSeed(t, pool)
	c, other := seed.Collection(t), seed.Collection(t)
	one, gone := seed.Item(t, c, "one", ""), seed.Item(t, c, "gone", "")
	elsewhere := seed.Item(t, other, "elsewhere", "")
	_, err := indexing.New(pool, es, alias).Sync(context.Background(), []indexing.Target{{ItemID: gone}})
	require.NoError(t, err)
	seed.Delete(t, gone)
	id := enqueue(t, seed, worker.TypeReindex, &c, 1)
	kafkatest.Start(t, worker.New(worker.Config{Elasticsearch: config.Elasticsearch{Index: alias}, Engine: fast()}, worker.Deps{
		Logger: kafkatest.Logger(t), Pool: pool, Elasticsearch: es,
	}).Run)
	job := becomes(t, pool, id, "SUCCEEDED")
	require.JSONEq(t, `{"items":2}`, string(job.Result))
	require.EqualValues(t, 2, job.Done)
	require.EqualValues(t, 2, job.Total)
	require.True(t, indexingtest.Get(t, es, alias, one).Found)
	require.False(t, indexingtest.Get(t, es, alias, gone).Found)
	require.False(t, indexingtest.Get(t, es, alias, elsewhere).Found)
}

func TestReindexGoesOnFromItsCheckpoint(t *testing.T) {
	t.Parallel()
	pool, es := pgtest.New(t), indexingtest.Client(t)
	alias, seed := indexingtest.NewAlias(t, es), indexingtest.NewSeed(t, pool)
	c := seed.Collection(t)
	before, after := seed.Item(t, c, "before", ""), seed.Item(t, c, "after", "")
	id := enqueue(t, seed, worker.TypeReindex, &c, 1)
	seed.Exec(t, "UPDATE jobs SET checkpoint = jsonb_build_object('after', $2::text, 'done', 1, 'total', 2) WHERE id = $1", id, before.String())
	kafkatest.Start(t, worker.New(worker.Config{Elasticsearch: config.Elasticsearch{Index: alias}, Engine: fast()}, worker.Deps{
		Logger: kafkatest.Logger(t), Pool: pool, Elasticsearch: es,
	}).Run)
	require.JSONEq(t, `{"items":2}`, string(becomes(t, pool, id, "SUCCEEDED").Result))
	require.False(t, indexingtest.Get(t, es, alias, before).Found)
	require.True(t, indexingtest.Get(t, es, alias, after).Found)
}

func TestReindexOfAMissingCollectionFailsAtOnce(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	c := seed.Collection(t)
	seed.Exec(t, "UPDATE collections SET deleted_at = now() WHERE id = $1", c)
	deleted, none := enqueue(t, seed, worker.TypeReindex, &c, 5), enqueue(t, seed, worker.TypeReindex, nil, 5)
	kafkatest.Start(t, worker.New(worker.Config{Engine: fast()}, worker.Deps{Logger: kafkatest.Logger(t), Pool: pool}).Run)
	job := becomes(t, pool, deleted, "FAILED")
	require.Equal(t, 1, job.Attempt)
	require.Equal(t, "the collection does not exist", *job.Error)
	require.Equal(t, "the job names no collection", *becomes(t, pool, none, "FAILED").Error)
}

func TestReindexWithoutElasticsearchSucceeds(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	c := seed.Collection(t)
	seed.Item(t, c, "one", "")
	id := enqueue(t, seed, worker.TypeReindex, &c, 1)
	kafkatest.Start(t, worker.New(worker.Config{Engine: fast()}, worker.Deps{Logger: kafkatest.Logger(t), Pool: pool}).Run)
	require.JSONEq(t, `{"items":1}`, string(becomes(t, pool, id, "SUCCEEDED").Result))
}
