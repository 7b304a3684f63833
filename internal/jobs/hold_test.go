package jobs_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/jobs/jobstest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

type transition = func(ctx context.Context, q *db.Queries, id uuid.UUID, actor *uuid.UUID) (db.Job, error)

func changed(t *testing.T, pool *pgxpool.Pool, id uuid.UUID, how transition) (job db.Job, err error) {
	t.Helper()
	return change(t, pool, func(q *db.Queries) (db.Job, error) { return how(t.Context(), q, id, nil) })
}

func TestAHeldJobIsNotClaimedAndKeepsNobodyBack(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	first, second := jobstest.Enqueue(t, seed, "test", nil, 1), jobstest.Enqueue(t, seed, "test", nil, 1)
	for range 2 { // to ask again is fine
		job, err := changed(t, pool, first, jobs.Hold)
		require.NoError(t, err)
		require.True(t, job.Held)
		require.Equal(t, "QUEUED", job.State)
	}
	kafkatest.Start(t, newEngine(t, pool, jobstest.Fast(), func(context.Context, *jobs.Execution) (any, error) { return nil, nil }).Run)
	jobstest.Becomes(t, pool, second, "SUCCEEDED")
	require.Equal(t, "QUEUED", jobstest.Read(t, pool, first).State)
	for range 2 {
		_, err := changed(t, pool, first, jobs.Resume)
		if err != nil {
			require.ErrorIs(t, err, jobs.ErrFinished) // it was quick
		}
	}
	jobstest.Becomes(t, pool, first, "SUCCEEDED")
	_, err := changed(t, pool, first, jobs.Hold)
	require.ErrorIs(t, err, jobs.ErrFinished)
	_, err = changed(t, pool, uuid.New(), jobs.Hold)
	require.ErrorIs(t, err, jobs.ErrNotFound)
	require.Equal(t, []string{"QUEUED", "QUEUED", "RUNNING", "SUCCEEDED"}, jobstest.States(t, pool, first), "one event each for hold and resume")
}

func TestARunningJobThatIsHeldIsHandedBackWithItsAttempt(t *testing.T) {
	t.Parallel()
	for name, waits := range map[string]func(ctx context.Context, x *jobs.Execution) error{
		"one that only listens": func(ctx context.Context, _ *jobs.Execution) error {
			<-ctx.Done()
			require.ErrorIs(t, context.Cause(ctx), jobs.ErrHeld)
			return ctx.Err()
		},
		"one that only saves": func(_ context.Context, x *jobs.Execution) error {
			for {
				if err := x.Save(context.WithoutCancel(t.Context()), 3, 9, "halfway"); err != nil {
					return err
				}
				timer := time.NewTimer(time.Millisecond)
				<-timer.C
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t)
			id := jobstest.Enqueue(t, indexingtest.NewSeed(t, pool), "test", nil, 1)
			started := make(chan struct{}, 1)
			kafkatest.Start(t, newEngine(t, pool, jobstest.Fast(), func(ctx context.Context, x *jobs.Execution) (any, error) {
				if x.Job.Checkpoint != nil {
					return x.Job.Checkpoint, nil
				}
				if err := x.Save(ctx, 3, 9, "halfway"); err != nil {
					return nil, err
				}
				started <- struct{}{}
				return nil, waits(ctx, x)
			}).Run)
			<-started
			job, err := changed(t, pool, id, jobs.Hold)
			require.NoError(t, err)
			require.Equal(t, "RUNNING", job.State)
			queued := jobstest.Becomes(t, pool, id, "QUEUED")
			require.Zero(t, queued.Attempt)
			held := func() (held bool) {
				require.NoError(t, pool.QueryRow(t.Context(), "SELECT held FROM jobs WHERE id = $1", id).Scan(&held))
				return held
			}
			require.True(t, held())
			_, err = changed(t, pool, id, jobs.Resume)
			require.NoError(t, err)
			done := jobstest.Becomes(t, pool, id, "SUCCEEDED")
			require.Equal(t, 1, done.Attempt)
			require.JSONEq(t, `"halfway"`, string(done.Result))
			require.False(t, held())
		})
	}
}

func TestCancelAndRescueOfAHeldJob(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	queued, dead := jobstest.Enqueue(t, seed, "test", nil, 2), jobstest.Enqueue(t, seed, "test", nil, 2)
	seed.Exec(t, "UPDATE jobs SET state = 'RUNNING', attempt = 1, lease_owner = 'dead', lease_expires_at = now() - interval '1 second' WHERE id = $1", dead)
	for _, id := range []uuid.UUID{queued, dead} {
		_, err := changed(t, pool, id, jobs.Hold)
		require.NoError(t, err)
	}
	_, err := changed(t, pool, queued, jobs.Cancel)
	require.NoError(t, err)
	job, err := changed(t, pool, queued, jobs.Retry)
	require.NoError(t, err)
	require.False(t, job.Held, "what is queued again is not held")
	kafkatest.Start(t, newEngine(t, pool, jobstest.Fast(), func(context.Context, *jobs.Execution) (any, error) { return nil, nil }).Run)
	jobstest.Becomes(t, pool, queued, "SUCCEEDED")
	jobstest.Becomes(t, pool, dead, "QUEUED")
	_, err = changed(t, pool, dead, jobs.Resume)
	require.NoError(t, err)
	require.Equal(t, 2, jobstest.Becomes(t, pool, dead, "SUCCEEDED").Attempt)
}

// TestAJobThatHasToWait comes back until it need not, and uses up no attempt meanwhile.
func TestAJobThatHasToWait(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	id := jobstest.Enqueue(t, indexingtest.NewSeed(t, pool), "test", nil, 1)
	turns := 0
	kafkatest.Start(t, newEngine(t, pool, jobstest.Fast(), func(context.Context, *jobs.Execution) (any, error) {
		if turns++; turns < 4 {
			return nil, jobs.Later(jobs.Errorf("busy", "somebody else is first"))
		}
		row := jobstest.Read(t, pool, id)
		return map[string]any{"error": row.Error}, nil
	}).Run)
	done := jobstest.Becomes(t, pool, id, "SUCCEEDED")
	require.Equal(t, 1, done.Attempt)
	require.Nil(t, done.Error)
	require.JSONEq(t, `{"error":"somebody else is first"}`, string(done.Result), "whoever looks is told")
	require.Equal(t, []string{"RUNNING", "QUEUED", "RUNNING", "QUEUED", "RUNNING", "QUEUED", "RUNNING", "SUCCEEDED"}, jobstest.States(t, pool, id))
	var waits int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM jobs, jsonb_array_elements(history) AS h
		WHERE id = $1 AND h->>'outcome' = 'handed_back' AND h->>'error_code' = 'busy'`, id).Scan(&waits))
	require.Equal(t, 1, waits, "waits in a row are one")
}
