package jobs_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/jobs/jobstest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

// deed is a change of a job, and who did it; the empty string is the platform.
type deed struct{ State, Actor string }

func deeds(t *testing.T, pool *pgxpool.Pool, id uuid.UUID) []deed {
	t.Helper()
	rows, err := pool.Query(t.Context(), "SELECT payload FROM outbox WHERE aggregate_id = $1 ORDER BY id", id)
	require.NoError(t, err)
	payloads, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	require.NoError(t, err)
	var out []deed
	for _, payload := range payloads {
		e, err := event.Decode(payload)
		require.NoError(t, err)
		d := deed{State: state(t, e)}
		if e.ActorUserID != nil {
			d.Actor = e.ActorUserID.String()
		}
		out = append(out, d)
	}
	return out
}

func cancelAs(t *testing.T, pool *pgxpool.Pool, id uuid.UUID, actor *uuid.UUID) {
	t.Helper()
	_, err := change(t, pool, func(q *db.Queries) (db.Job, error) { return jobs.Cancel(t.Context(), q, id, actor) })
	require.NoError(t, err)
}

// TestTheTrailSaysWhoCancelledARunningJob, though a worker ends it.
func TestTheTrailSaysWhoCancelledARunningJob(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	id := jobstest.Enqueue(t, indexingtest.NewSeed(t, pool), "test", nil, 5)
	first, second := uuid.New(), uuid.New() // users may be gone
	started := make(chan struct{}, 1)
	kafkatest.Start(t, newEngine(t, pool, jobs.Config{}, untilDone(started)).Run)
	var want []deed
	for _, who := range []struct {
		asks  []*uuid.UUID
		actor string
	}{
		{[]*uuid.UUID{&first, &second}, first.String()}, // who asks again does nothing
		{[]*uuid.UUID{&second}, second.String()},
		{[]*uuid.UUID{nil}, ""}, // a part of the platform
	} {
		<-started
		for _, actor := range who.asks {
			_, err := change(t, pool, func(q *db.Queries) (db.Job, error) { return jobs.Cancel(t.Context(), q, id, actor) })
			if err != nil {
				require.ErrorIs(t, err, jobs.ErrFinished) // the worker was quick
			}
		}
		jobstest.Becomes(t, pool, id, "CANCELLED")
		want = append(want, deed{"RUNNING", ""}, deed{"CANCELLED", who.actor})
		require.Equal(t, want, deeds(t, pool, id))
		_, err := retry(t, pool, id)
		require.NoError(t, err)
		want = append(want, deed{"QUEUED", ""})
	}
}

func TestTheTrailSaysWhoCancelledTheJobOfADeadWorker(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	id, free := jobstest.Enqueue(t, seed, "test", nil, 5), jobstest.Enqueue(t, seed, "test", nil, 5)
	seed.Exec(t, "UPDATE jobs SET state = 'RUNNING', attempt = 1, lease_owner = 'dead', lease_expires_at = now() - interval '1 second'")
	cancelAs(t, pool, id, &seed.User)
	kafkatest.Start(t, newEngine(t, pool, jobstest.Fast(), func(context.Context, *jobs.Execution) (any, error) { return nil, nil }).Run)
	jobstest.Becomes(t, pool, id, "CANCELLED")
	require.Equal(t, []deed{{"CANCELLED", seed.User.String()}}, deeds(t, pool, id))
	jobstest.Becomes(t, pool, free, "SUCCEEDED")
	require.Equal(t, []deed{{"QUEUED", ""}, {"RUNNING", ""}, {"SUCCEEDED", ""}}, deeds(t, pool, free))
}

// TestACancelThatCameTooLateIsNobodysDeed: the job succeeded all the same.
func TestACancelThatCameTooLateIsNobodysDeed(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	id := jobstest.Enqueue(t, seed, "test", nil, 5)
	kafkatest.Start(t, newEngine(t, pool, jobs.Config{}, func(context.Context, *jobs.Execution) (any, error) {
		cancelAs(t, pool, id, &seed.User)
		return nil, nil
	}).Run)
	jobstest.Becomes(t, pool, id, "SUCCEEDED")
	require.Equal(t, []deed{{"RUNNING", ""}, {"SUCCEEDED", ""}}, deeds(t, pool, id))
}

func state(t *testing.T, e event.Envelope) string {
	t.Helper()
	var data event.JobData
	require.NoError(t, json.Unmarshal(e.Data, &data))
	return data.State
}
