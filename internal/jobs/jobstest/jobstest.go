// Package jobstest helps tests of jobs.
package jobstest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/jobs"
)

// Patience is how long tests wait for what must come.
const Patience = 2 * time.Minute

// Fast is an engine for tests: nothing waits long, but a lease outlives a slow machine's hiccups.
func Fast() jobs.Config {
	return jobs.Config{PollInterval: 5 * time.Millisecond, Lease: 3 * time.Second, RetryInitial: 5 * time.Millisecond, RetryMax: 10 * time.Millisecond}
}

// Enqueue inserts a job without an event.
func Enqueue(t *testing.T, seed *indexingtest.Seed, jobType string, collection *uuid.UUID, maxAttempts int) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	seed.Exec(t, "INSERT INTO jobs (id, type, collection_id, max_attempts) VALUES ($1, $2, $3, $4)", id, jobType, collection, maxAttempts)
	return id
}

// Row is a job as tests look at it.
type Row struct {
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

// Read reads a job.
func Read(t *testing.T, pool *pgxpool.Pool, id uuid.UUID) (j Row) {
	t.Helper()
	require.NoError(t, pool.QueryRow(context.Background(), `SELECT state, attempt, version, error, result, progress_done, progress_total, lease_owner,
		finished_at FROM jobs WHERE id = $1`, id).
		Scan(&j.State, &j.Attempt, &j.Version, &j.Error, &j.Result, &j.Done, &j.Total, &j.LeaseOwner, &j.Finished))
	return j
}

// Becomes waits until the job has the state.
func Becomes(t *testing.T, pool *pgxpool.Pool, id uuid.UUID, state string) Row {
	t.Helper()
	require.Eventually(t, func() bool { return Read(t, pool, id).State == state }, Patience, 5*time.Millisecond, "job becomes %s", state)
	return Read(t, pool, id)
}

// States returns the states that the job's events announced, in order, and checks each event.
func States(t *testing.T, pool *pgxpool.Pool, id uuid.UUID) []string {
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
