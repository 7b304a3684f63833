package worker_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/jobs/jobstest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/tasks"
	"github.com/atlas-platform/atlas/services/worker"
)

// purgeWorld is a deleted collection and the job that follows.
type purgeWorld struct {
	*indexingtest.Seed
	collection, job uuid.UUID
}

func newPurgeWorld(t *testing.T, items int) purgeWorld {
	t.Helper()
	w := purgeWorld{Seed: indexingtest.NewSeed(t, pgtest.New(t))}
	w.collection = w.Collection(t)
	w.Exec(t, `INSERT INTO items (id, collection_id, title, source_url, created_by, updated_by)
		SELECT gen_random_uuid(), $1, 'item ' || n, 'https://example.com/' || n, $2, $2 FROM generate_series(1, $3::int) AS n`, w.collection, w.User, items)
	return w
}

// delete does what the API does.
func (w *purgeWorld) delete(t *testing.T) {
	t.Helper()
	w.Exec(t, "UPDATE collections SET deleted_at = now(), version = version + 1 WHERE id = $1", w.collection)
	w.job = uuid.Must(uuid.NewV7())
	w.Exec(t, "INSERT INTO jobs (id, type, collection_id, created_by, max_attempts) VALUES ($1, 'purge', $2, $3, 50)", w.job, w.collection, w.User)
}

func (w *purgeWorld) start(t *testing.T) (stop func()) {
	t.Helper()
	engine := jobstest.Fast()
	engine.Lease = jobstest.Patience // no test of leases
	return kafkatest.Start(t, worker.New(worker.Config{Engine: engine}, worker.Deps{Logger: kafkatest.Logger(t), Pool: w.Pool}).Run)
}

func (w *purgeWorld) live(t *testing.T) (n int) {
	t.Helper()
	return count(t, w.Pool, "SELECT count(*) FROM items WHERE collection_id = $1 AND deleted_at IS NULL", w.collection)
}

func count(t *testing.T, pool *pgxpool.Pool, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, pool.QueryRow(context.Background(), query, args...).Scan(&n))
	return n
}

// requireDeletedOnce checks that each item has the version after its last one, one ItemDeleted with it, and the job's creator as the actor.
func (w *purgeWorld) requireDeletedOnce(t *testing.T, items int) {
	t.Helper()
	require.Zero(t, w.live(t))
	require.Zero(t, count(t, w.Pool, "SELECT count(*) FROM items WHERE deleted_at IS NULL OR version <> 2 OR updated_by <> $1", w.User))
	rows, err := w.Pool.Query(context.Background(), "SELECT payload FROM outbox WHERE aggregate_id <> $1 ORDER BY id", w.job)
	require.NoError(t, err)
	defer rows.Close()
	seen := map[uuid.UUID]bool{}
	for rows.Next() {
		var payload []byte
		require.NoError(t, rows.Scan(&payload))
		require.NoError(t, event.Validate(payload))
		e, err := event.Decode(payload)
		require.NoError(t, err)
		require.Equal(t, event.ItemDeleted, e.EventType)
		require.Equal(t, w.User, *e.ActorUserID)
		require.Equal(t, w.collection, *e.Entity.CollectionID)
		var data event.ItemData
		require.NoError(t, json.Unmarshal(e.Data, &data))
		require.EqualValues(t, 2, data.EntityVersion)
		require.NotNil(t, data.SourceURL)
		require.False(t, seen[e.Entity.ID], "deleted twice")
		seen[e.Entity.ID] = true
	}
	require.NoError(t, rows.Err())
	require.Len(t, seen, items)
}

func TestPurgeDeletesEveryItemOfADeletedCollection(t *testing.T) {
	t.Parallel()
	const items = 5000
	w := newPurgeWorld(t, items)
	kept := w.Item(t, w.Collection(t), "kept", "")
	w.delete(t)
	w.start(t)
	job := jobstest.Becomes(t, w.Pool, w.job, "SUCCEEDED")
	require.JSONEq(t, `{"items":5000}`, string(job.Result))
	require.EqualValues(t, items, job.Done)
	require.EqualValues(t, items, job.Total)
	require.Equal(t, []string{"RUNNING", "SUCCEEDED"}, jobstest.States(t, w.Pool, w.job))
	require.Equal(t, 1, count(t, w.Pool, "SELECT count(*) FROM items WHERE id = $1 AND deleted_at IS NULL", kept))
	w.Exec(t, "DELETE FROM items WHERE id = $1", kept)
	w.requireDeletedOnce(t, items)
}

// TestAPurgeGoesOnAfterItsWorkerDied stops workers in the middle, some as a drain does, some by breaking their connections.
func TestAPurgeGoesOnAfterItsWorkerDied(t *testing.T) {
	t.Parallel()
	const items = 5500
	w := newPurgeWorld(t, items)
	w.delete(t)
	for i, done := range []int64{1000, 3000} {
		stop := w.start(t)
		require.Eventually(t, func() bool { return jobstest.Read(t, w.Pool, w.job).Done >= done }, jobstest.Patience, time.Millisecond)
		if i == 0 {
			w.Exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
				AND query LIKE '%DeleteItemsOfCollection%'`)
		}
		stop()
		// Committed is what was counted, at every moment.
		require.EqualValues(t, items-w.live(t), jobstest.Read(t, w.Pool, w.job).Done)
	}
	w.start(t)
	require.JSONEq(t, `{"items":5500}`, string(jobstest.Becomes(t, w.Pool, w.job, "SUCCEEDED").Result))
	w.requireDeletedOnce(t, items)
}

func TestAPurgeGoesOnFromItsCheckpointAndLooksBackOnce(t *testing.T) {
	t.Parallel()
	w := newPurgeWorld(t, 3)
	var ids []uuid.UUID
	rows, err := w.Pool.Query(t.Context(), "SELECT id FROM items ORDER BY id")
	require.NoError(t, err)
	ids, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	require.NoError(t, err)
	w.delete(t)
	// The checkpoint is behind the second item, but the first one is live: it was committed behind the purge's back.
	w.Exec(t, "UPDATE jobs SET checkpoint = jsonb_build_object('after', $2::text, 'done', 7, 'total', 8) WHERE id = $1", w.job, ids[1].String())
	w.start(t)
	job := jobstest.Becomes(t, w.Pool, w.job, "SUCCEEDED")
	require.JSONEq(t, `{"items":10}`, string(job.Result))
	require.EqualValues(t, 10, job.Total)
	w.requireDeletedOnce(t, 3)
}

func TestAPurgeOfALiveCollectionIsRefused(t *testing.T) {
	t.Parallel()
	w := newPurgeWorld(t, 1)
	alive, none := jobstest.Enqueue(t, w.Seed, tasks.TypePurge, &w.collection, 5), jobstest.Enqueue(t, w.Seed, tasks.TypePurge, nil, 5)
	w.start(t)
	require.Equal(t, "the collection is not deleted", *jobstest.Becomes(t, w.Pool, alive, "FAILED").Error)
	require.Equal(t, "the job names no collection", *jobstest.Becomes(t, w.Pool, none, "FAILED").Error)
	require.Equal(t, 1, w.live(t))
}

// TestAPurgeTakesWhatWasCreatedJustBefore creates items, as the API does, until the deletion shuts the door.
func TestAPurgeTakesWhatWasCreatedJustBefore(t *testing.T) {
	t.Parallel()
	w := newPurgeWorld(t, 1)
	w.Exec(t, "INSERT INTO memberships (id, collection_id, user_id, role) VALUES (gen_random_uuid(), $1, $2, 'owner')", w.collection, w.User)
	started := make(chan struct{})
	var once sync.Once
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for {
				err := postgres.InTx(context.Background(), w.Pool, func(tx pgx.Tx) error {
					_, err := tx.Exec(context.Background(), `WITH target AS (SELECT id FROM collections WHERE id = $1 AND deleted_at IS NULL FOR SHARE),
						made AS (INSERT INTO items (id, collection_id, title, source_url, created_by, updated_by)
							SELECT gen_random_uuid(), id, 't', 'https://example.com', $2, $2 FROM target RETURNING 1)
						SELECT 1 / (SELECT count(*)::int FROM made)`, w.collection, w.User) // fails when the door is shut
					return err
				})
				if err != nil {
					return
				}
				once.Do(func() { close(started) })
			}
		})
	}
	<-started
	require.NoError(t, postgres.InTx(t.Context(), w.Pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		if _, err := q.LockCollection(t.Context(), w.collection, w.User); err != nil {
			return err
		}
		at := time.Now()
		_, err := q.DeleteCollection(t.Context(), &at, w.collection)
		w.job = uuid.Must(uuid.NewV7())
		if err == nil {
			_, err = tx.Exec(t.Context(), "INSERT INTO jobs (id, type, collection_id, created_by) VALUES ($1, 'purge', $2, $3)", w.job, w.collection, w.User)
		}
		return err
	}))
	w.start(t)
	writers.Wait()
	jobstest.Becomes(t, w.Pool, w.job, "SUCCEEDED")
	w.requireDeletedOnce(t, count(t, w.Pool, "SELECT count(*) FROM items"))
}

// TestAnItemIsDeletedOnce purges a collection while the deletion of one of its items is about to be committed.
func TestAnItemIsDeletedOnce(t *testing.T) {
	t.Parallel()
	w := newPurgeWorld(t, 1)
	w.delete(t)
	tx, err := w.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(t.Context()) //nolint:errcheck // committed below
	_, err = tx.Exec(t.Context(), "UPDATE items SET deleted_at = now(), version = version + 1")
	require.NoError(t, err)
	w.start(t)
	require.Eventually(t, func() bool {
		return count(t, w.Pool, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0
	}, jobstest.Patience, 5*time.Millisecond)
	require.NoError(t, tx.Commit(t.Context()))
	require.JSONEq(t, `{"items":0}`, string(jobstest.Becomes(t, w.Pool, w.job, "SUCCEEDED").Result))
	require.Zero(t, count(t, w.Pool, "SELECT count(*) FROM items WHERE version <> 2"))
	require.Zero(t, count(t, w.Pool, "SELECT count(*) FROM outbox WHERE aggregate_id <> $1", w.job), "only the test deleted the item")
}

// TestTheWorkerHostsTheJanitor takes a deleted collection to its very end: purge, search's word that it knows, and the janitor.
func TestTheWorkerHostsTheJanitor(t *testing.T) {
	t.Parallel()
	w := newPurgeWorld(t, 20)
	w.delete(t)
	engine := jobstest.Fast()
	kafkatest.Start(t, worker.New(worker.Config{Trash: config.Trash{Retention: time.Millisecond}, Engine: engine, JanitorInterval: 10 * time.Millisecond}, worker.Deps{
		Logger: kafkatest.Logger(t), Pool: w.Pool,
	}).Run)
	require.Eventually(t, func() bool { return w.live(t) == 0 }, jobstest.Patience, 5*time.Millisecond)
	w.Exec(t, "INSERT INTO item_index_state SELECT id, version FROM items")
	require.Eventually(t, func() bool {
		return count(t, w.Pool, "SELECT (SELECT count(*) FROM collections) + (SELECT count(*) FROM items) + (SELECT count(*) FROM jobs)") == 0
	}, jobstest.Patience, 5*time.Millisecond)
	require.Zero(t, count(t, w.Pool, "SELECT count(*) FROM item_index_state"))
}
