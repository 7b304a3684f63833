package jobs_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/jobs/jobstest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

type run = func(ctx context.Context, x *jobs.Execution) (any, error)

func newEngine(t *testing.T, pool *pgxpool.Pool, cfg jobs.Config, task run) *jobs.Engine {
	t.Helper()
	return jobs.New(cfg, jobs.Deps{Logger: kafkatest.Logger(t), Pool: pool, Tasks: []jobs.Task{jobs.Func(jobs.Kind{Name: "test"}, task)}})
}

func TestAPanicFailsTheAttemptWithoutItsStack(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	id := jobstest.Enqueue(t, indexingtest.NewSeed(t, pool), "test", nil, 1)
	kafkatest.Start(t, newEngine(t, pool, jobstest.Fast(), func(context.Context, *jobs.Execution) (any, error) { panic("boom") }).Run)
	job := jobstest.Becomes(t, pool, id, "FAILED")
	require.Equal(t, "the task panicked: boom", *job.Error) // users read it
}

func TestAJobSucceeds(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	id := jobstest.Enqueue(t, seed, "test", nil, 3)
	other := jobstest.Enqueue(t, seed, "of a newer version", nil, 3)
	kafkatest.Start(t, newEngine(t, pool, jobstest.Fast(), func(ctx context.Context, x *jobs.Execution) (any, error) {
		return map[string]int{"answer": 42}, x.Save(ctx, 5, 10, "here")
	}).Run)
	job := jobstest.Becomes(t, pool, id, "SUCCEEDED")
	require.Equal(t, 1, job.Attempt)
	require.JSONEq(t, `{"answer":42}`, string(job.Result))
	require.EqualValues(t, 5, job.Done)
	require.EqualValues(t, 10, job.Total)
	require.Nil(t, job.LeaseOwner)
	require.NotNil(t, job.Finished)
	require.Equal(t, []string{"RUNNING", "SUCCEEDED"}, jobstest.States(t, pool, id))
	require.Equal(t, "QUEUED", jobstest.Read(t, pool, other).State)
}

func TestAFailingJobIsRetriedUntilItsAttemptsAreUsedUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err      error
		attempts int
		states   []string
	}{
		"passing":   {errors.New("away"), 2, []string{"RUNNING", "QUEUED", "RUNNING", "FAILED"}},
		"permanent": {jobs.Permanent(errors.New("hopeless")), 1, []string{"RUNNING", "FAILED"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t)
			id := jobstest.Enqueue(t, indexingtest.NewSeed(t, pool), "test", nil, 2)
			kafkatest.Start(t, newEngine(t, pool, jobstest.Fast(), func(context.Context, *jobs.Execution) (any, error) { return nil, c.err }).Run)
			job := jobstest.Becomes(t, pool, id, "FAILED")
			require.Equal(t, c.attempts, job.Attempt)
			require.Equal(t, c.err.Error(), *job.Error)
			require.Equal(t, c.states, jobstest.States(t, pool, id))
		})
	}
}

func TestAPanicIsAFailure(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	id := jobstest.Enqueue(t, indexingtest.NewSeed(t, pool), "test", nil, 1)
	kafkatest.Start(t, newEngine(t, pool, jobstest.Fast(), func(context.Context, *jobs.Execution) (any, error) { panic("ouch") }).Run)
	require.Contains(t, *jobstest.Becomes(t, pool, id, "FAILED").Error, "ouch")
}

func TestAWorkerThatLostItsLeaseCannotFinish(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	id := jobstest.Enqueue(t, seed, "test", nil, 5)
	var calls atomic.Int32
	started, release, saved := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	task := func(ctx context.Context, x *jobs.Execution) (any, error) {
		if calls.Add(1) > 1 {
			return "the second", nil
		}
		close(started)
		<-release // deaf to ctx, as a stalled process is
		saved <- x.Save(ctx, 1, 1, nil)
		return "the first", nil
	}
	engine := jobstest.Fast()
	engine.Concurrency = 1
	zombie := newEngine(t, pool, engine, task)
	stop := kafkatest.Start(t, zombie.Run)
	<-started
	// The machine slept: the lease ran out, and the row shows it.
	seed.Exec(t, "UPDATE jobs SET state = 'QUEUED', lease_owner = NULL, lease_expires_at = NULL WHERE id = $1", id)
	kafkatest.Start(t, newEngine(t, pool, engine, task).Run)
	require.JSONEq(t, `"the second"`, string(jobstest.Becomes(t, pool, id, "SUCCEEDED").Result))
	close(release)
	err := <-saved
	require.True(t, errors.Is(err, jobs.ErrLeaseLost) || errors.Is(err, context.Canceled), err)
	stop()
	job := jobstest.Read(t, pool, id)
	require.JSONEq(t, `"the second"`, string(job.Result))
	require.Equal(t, 2, job.Attempt)
	require.Equal(t, []string{"RUNNING", "RUNNING", "SUCCEEDED"}, jobstest.States(t, pool, id))
}

func TestAJobOfADeadWorkerIsRescued(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	again, spent := jobstest.Enqueue(t, seed, "test", nil, 2), jobstest.Enqueue(t, seed, "test", nil, 1)
	seed.Exec(t, "UPDATE jobs SET state = 'RUNNING', attempt = 1, lease_owner = 'dead', lease_expires_at = now() - interval '1 second'")
	engine := jobstest.Fast()
	engine.Lease = 300 * time.Millisecond
	kafkatest.Start(t, newEngine(t, pool, engine, func(context.Context, *jobs.Execution) (any, error) { return nil, nil }).Run)
	require.Equal(t, 2, jobstest.Becomes(t, pool, again, "SUCCEEDED").Attempt)
	require.Equal(t, []string{"QUEUED", "RUNNING", "SUCCEEDED"}, jobstest.States(t, pool, again))
	require.Contains(t, *jobstest.Becomes(t, pool, spent, "FAILED").Error, "lease")
	require.Equal(t, []string{"FAILED"}, jobstest.States(t, pool, spent))
}

func TestHeartbeatsKeepALongJob(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	id := jobstest.Enqueue(t, indexingtest.NewSeed(t, pool), "test", nil, 5)
	engine := jobstest.Fast()
	engine.Lease = 600 * time.Millisecond
	task := func(ctx context.Context, _ *jobs.Execution) (any, error) {
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
		kafkatest.Start(t, newEngine(t, pool, engine, task).Run)
	}
	require.Equal(t, 1, jobstest.Becomes(t, pool, id, "SUCCEEDED").Attempt)
}

func TestADrainingWorkerHandsItsJobBack(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	id := jobstest.Enqueue(t, indexingtest.NewSeed(t, pool), "test", nil, 1)
	started := make(chan struct{})
	stop := kafkatest.Start(t, newEngine(t, pool, jobstest.Fast(), func(ctx context.Context, x *jobs.Execution) (any, error) {
		if err := x.Save(ctx, 3, 9, "halfway"); err != nil {
			return nil, err
		}
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	}).Run)
	<-started
	stop()
	job := jobstest.Read(t, pool, id)
	require.Equal(t, "QUEUED", job.State)
	require.Zero(t, job.Attempt)
	kafkatest.Start(t, newEngine(t, pool, jobstest.Fast(), func(_ context.Context, x *jobs.Execution) (any, error) {
		return x.Job.Checkpoint, nil
	}).Run)
	job = jobstest.Becomes(t, pool, id, "SUCCEEDED")
	require.Equal(t, 1, job.Attempt)
	require.JSONEq(t, `"halfway"`, string(job.Result))
	require.Equal(t, []string{"RUNNING", "QUEUED", "RUNNING", "SUCCEEDED"}, jobstest.States(t, pool, id))
}

func TestTwoWorkersNeverRunTheSameJob(t *testing.T) {
	t.Parallel()
	const queued = 60
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	for range queued {
		jobstest.Enqueue(t, seed, "test", nil, 1)
	}
	var runs atomic.Int32
	for range 2 {
		kafkatest.Start(t, newEngine(t, pool, jobstest.Fast(), func(context.Context, *jobs.Execution) (any, error) {
			runs.Add(1)
			return nil, nil
		}).Run)
	}
	require.Eventually(t, func() bool {
		var n int
		require.NoError(t, pool.QueryRow(context.Background(), "SELECT count(*) FROM jobs WHERE state = 'SUCCEEDED'").Scan(&n))
		return n == queued
	}, jobstest.Patience, 10*time.Millisecond)
	require.EqualValues(t, queued, runs.Load())
}
