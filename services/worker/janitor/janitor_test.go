package janitor_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/services/worker/janitor"
)

type bundle struct {
	*indexingtest.Seed
	t *testing.T
}

func setup(t *testing.T) bundle {
	t.Helper()
	return bundle{Seed: indexingtest.NewSeed(t, pgtest.New(t)), t: t}
}

// round makes one with batches of two, so that every kind takes several.
func (b bundle) round(retention time.Duration) map[string]int64 {
	b.t.Helper()
	j := janitor.New(janitor.Config{Retention: retention, BatchSize: 2}, janitor.Deps{Logger: kafkatest.Logger(b.t), Pool: b.Pool})
	removed, err := j.Round(b.t.Context())
	require.NoError(b.t, err)
	return removed
}

func (b bundle) count(query string, args ...any) (n int) {
	b.t.Helper()
	return count(b.t, b.Pool, query, args...)
}

func count(t *testing.T, pool *pgxpool.Pool, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, pool.QueryRow(context.Background(), query, args...).Scan(&n))
	return n
}

// seen records that search has the item's version.
func (b bundle) seen(item uuid.UUID) {
	b.t.Helper()
	b.Exec(b.t, `INSERT INTO item_index_state (item_id, indexed_version) SELECT id, version FROM items WHERE id = $1
		ON CONFLICT (item_id) DO UPDATE SET indexed_version = excluded.indexed_version`, item)
}

func TestTheTrashIsEmptiedAfterItsTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	collection := b.Collection(t)
	kept, fresh := b.Item(t, collection, "kept", "", "a"), b.Item(t, collection, "fresh", "", "a")
	b.Delete(t, fresh)
	b.seen(fresh)
	var old []uuid.UUID
	for range 5 {
		item := b.Item(t, collection, "old", "", "a", "b")
		b.Exec(t, "INSERT INTO item_revisions VALUES ($1, 2, $2, now(), '{title}', '{}')", item, b.User)
		b.Delete(t, item)
		b.seen(item)
		b.Exec(t, "UPDATE items SET deleted_at = now() - interval '31 days' WHERE id = $1", item)
		old = append(old, item)
	}
	unseen, forgotten := b.Item(t, collection, "unseen", ""), b.Item(t, collection, "forgotten", "")
	b.seen(unseen) // of the version before
	b.Delete(t, unseen)
	b.Delete(t, forgotten)
	b.Exec(t, "UPDATE items SET deleted_at = now() - interval '36 days' WHERE id = $1", unseen)
	b.Exec(t, "UPDATE items SET deleted_at = now() - interval '38 days' WHERE id = $1", forgotten)

	require.Equal(t, map[string]int64{"items": 6}, b.round(0))
	require.Equal(t, 3, b.count("SELECT count(*) FROM items WHERE id = ANY ($1)", []uuid.UUID{kept, fresh, unseen}))
	require.Equal(t, 3, b.count("SELECT count(*) FROM items"))
	for _, table := range []string{"item_tags", "item_revisions", "item_index_state"} {
		require.Zero(t, b.count("SELECT count(*) FROM "+table+" WHERE item_id = ANY ($1)", old), table)
	}
	require.Equal(t, 2, b.count("SELECT count(*) FROM item_tags"))

	b.seen(unseen)
	require.Equal(t, map[string]int64{"items": 1}, b.round(0))
	require.Equal(t, map[string]int64{}, b.round(0))
	require.Equal(t, map[string]int64{"items": 1}, b.round(time.Nanosecond), "the fresh one, with another retention")
	require.Equal(t, 1, b.count("SELECT count(*) FROM items"))
}

func TestAnItemInUseWaitsForTheNextRound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	item := b.Item(t, b.Collection(t), "old", "")
	b.Delete(t, item)
	b.seen(item)
	restore, err := b.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer restore.Rollback(t.Context()) //nolint:errcheck // committed below
	_, err = restore.Exec(t.Context(), "UPDATE items SET deleted_at = NULL, version = version + 1 WHERE id = $1", item)
	require.NoError(t, err)
	require.Empty(t, b.round(time.Nanosecond))
	require.NoError(t, restore.Commit(t.Context()))
	require.Empty(t, b.round(time.Nanosecond))
	require.Equal(t, 1, b.count("SELECT count(*) FROM items"))
}

func TestADeletedCollectionGoesAfterItsItems(t *testing.T) {
	t.Parallel()
	b := setup(t)
	collection, alive := b.Collection(t), b.Collection(t)
	member := func(collection uuid.UUID) {
		for range 3 {
			user := uuid.New()
			b.Exec(t, "INSERT INTO users (id, email, password_hash) VALUES ($1, $2, 'x')", user, user.String())
			b.Exec(t, "INSERT INTO memberships (id, collection_id, user_id, role) VALUES ($1, $2, $3, 'viewer')", uuid.New(), collection, user)
		}
	}
	member(collection)
	member(alive)
	item := b.Item(t, collection, "one", "", "a", "b", "c")
	b.Item(t, alive, "two", "", "a")
	job := uuid.New()
	b.Exec(t, "INSERT INTO jobs (id, type, collection_id, state) VALUES ($1, 'purge', $2, 'RUNNING')", job, collection)
	b.Exec(t, "INSERT INTO jobs (id, type, collection_id, state) VALUES ($1, 'reindex', $2, 'FAILED')", uuid.New(), collection)
	b.Exec(t, "UPDATE collections SET deleted_at = now() WHERE id = $1", collection)

	require.Empty(t, b.round(time.Nanosecond), "the purge is at work")
	b.Delete(t, item)
	require.Empty(t, b.round(time.Nanosecond), "search has not seen the deletion")
	b.seen(item)
	require.Equal(t, map[string]int64{"items": 1}, b.round(time.Nanosecond), "a job is not finished")
	b.Exec(t, "UPDATE jobs SET state = 'SUCCEEDED' WHERE id = $1", job)
	require.Empty(t, b.round(time.Hour))
	require.Equal(t, map[string]int64{"tags": 3, "memberships": 3, "jobs": 2, "collections": 1}, b.round(time.Nanosecond))
	require.Equal(t, 1, b.count("SELECT count(*) FROM collections"))
	require.Equal(t, 3, b.count("SELECT count(*) FROM memberships"))
	require.Equal(t, 1, b.count("SELECT count(*) FROM tags"))
	require.Equal(t, 0, b.count("SELECT count(*) FROM outbox"), "its deletion was announced long ago")
}

func TestAFailedPurgeIsQueuedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	collection, fine := b.Collection(t), b.Collection(t)
	b.Item(t, collection, "one", "")
	b.Item(t, fine, "two", "")
	b.Exec(t, "INSERT INTO jobs (id, type, collection_id, state, created_by) VALUES ($1, 'purge', $2, 'FAILED', $3)", uuid.New(), collection, b.User)
	b.Exec(t, "UPDATE collections SET deleted_at = now() WHERE id = $1", collection)
	for range 2 {
		require.Empty(t, b.round(time.Hour))
		require.Equal(t, 1, b.count(`SELECT count(*) FROM jobs WHERE type = 'purge' AND state = 'QUEUED' AND collection_id = $1 AND created_by = $2
			AND parameters->>'collection_id' = $1::text`, collection, b.User))
		require.Equal(t, 2, b.count("SELECT count(*) FROM jobs"))
	}
	var payload []byte
	require.NoError(t, b.Pool.QueryRow(t.Context(), "SELECT payload FROM outbox").Scan(&payload))
	require.NoError(t, event.Validate(payload))
	e, err := event.Decode(payload)
	require.NoError(t, err)
	require.Equal(t, event.JobCreated, e.EventType)
	require.Nil(t, e.ActorUserID, "the platform did it")
}

func TestWhatLoginsAndScriptsLeaveBehind(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, age := range []string{"1 minute", "23 hours", "24 hours 30 minutes", "26 hours", "31 days"} {
		b.Exec(t, `INSERT INTO idempotency_keys (principal, key, request_hash, status, header, body, collections, created_at)
			VALUES ($1, $2::text, '', 201, '{}', '', '{}', now() - $2::text::interval)`, b.User, age)
		for _, ended := range []string{"expires_at", "revoked_at"} {
			session := uuid.New()
			b.Exec(t, "INSERT INTO sessions (id, user_id, user_agent, address, expires_at) VALUES ($1, $2, '', '', now() + interval '1 day')", session, b.User)
			b.Exec(t, "UPDATE sessions SET "+ended+" = now() - $2::text::interval WHERE id = $1", session, age)
			b.Exec(t, "INSERT INTO refresh_tokens (hash, session_id) VALUES ($1, $2)", session[:], session)
		}
		token := uuid.New()
		b.Exec(t, "INSERT INTO api_tokens (id, user_id, name, scopes, hash, expires_at) VALUES ($1, $2, '', '{}', $3, now() - $4::text::interval)",
			token, b.User, token[:], age)
		b.Exec(t, "INSERT INTO login_attempts VALUES ($1, 1, now() + interval '5 minutes' - $2::text::interval)", token[:], age)
	}
	b.Exec(t, "INSERT INTO sessions (id, user_id, user_agent, address, expires_at) VALUES ($1, $2, '', '', now() + interval '1 day')", uuid.New(), b.User)
	require.Equal(t, map[string]int64{"idempotency_keys": 2, "sessions": 6, "api_tokens": 1, "login_attempts": 4}, b.round(0))
	require.Equal(t, 3, b.count("SELECT count(*) FROM idempotency_keys"))
	require.Equal(t, 5, b.count("SELECT count(*) FROM sessions"))
	require.Equal(t, 4, b.count("SELECT count(*) FROM refresh_tokens"))
	require.Equal(t, 1, b.count("SELECT count(*) FROM login_attempts"))
	require.Empty(t, b.round(0))
}

// TestMovesAreRememberedUntilTheIndexHasHadThem moves items that the index has not seen there, sees now, has seen long enough, and that are erased.
func TestMovesAreRememberedUntilTheIndexHasHadThem(t *testing.T) {
	t.Parallel()
	b := setup(t)
	from, to := b.Collection(t), b.Collection(t)
	move := func(item uuid.UUID, collection uuid.UUID) {
		b.Exec(t, "UPDATE items SET collection_id = $2, version = version + 1 WHERE id = $1", item, collection)
	}
	age := func(item uuid.UUID) {
		b.Exec(t, "UPDATE item_index_state SET indexed_at = now() - interval '16 minutes' WHERE item_id = $1", item)
	}
	unseen, fresh, again, erased := b.Item(t, from, "unseen", ""), b.Item(t, from, "fresh", ""), b.Item(t, from, "again", ""), b.Item(t, from, "erased", "")
	b.seen(unseen)
	age(unseen)
	for _, item := range []uuid.UUID{unseen, fresh, again, erased} {
		move(item, to)
	}
	b.seen(fresh)
	b.seen(again)
	age(again)
	move(again, from)
	move(again, to)
	var old []uuid.UUID
	for range 3 {
		item := b.Item(t, from, "old", "")
		move(item, from)
		move(item, to)
		b.seen(item)
		age(item)
		old = append(old, item)
	}
	b.Delete(t, erased)
	b.seen(erased)
	require.Equal(t, 8, b.count("SELECT count(*) FROM item_moves"))
	require.Equal(t, map[string]int64{"item_moves": 3}, b.round(0))
	require.Zero(t, b.count("SELECT count(*) FROM item_moves WHERE item_id = ANY ($1)", old))
	require.Equal(t, map[string]int64{"items": 1}, b.round(time.Nanosecond))
	require.Equal(t, 4, b.count("SELECT count(*) FROM item_moves WHERE item_id = ANY ($1)", []uuid.UUID{unseen, fresh, again}), "again from both")
	require.Equal(t, 4, b.count("SELECT count(*) FROM item_moves"))

	// An item that is erased although search has never seen its move stays out of searches.
	b.Delete(t, unseen)
	b.Exec(t, "UPDATE items SET deleted_at = now() - interval '38 days' WHERE id = $1", unseen)
	require.Equal(t, map[string]int64{"items": 1}, b.round(0))
	require.Equal(t, 4, b.count("SELECT count(*) FROM item_moves"))
	b.seen(again)
	age(again)
	require.Equal(t, map[string]int64{"item_moves": 2}, b.round(0))
}

func TestAKeyThatIsUsedAnewStays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Exec(t, `INSERT INTO idempotency_keys (principal, key, request_hash, status, header, body, collections, created_at)
		VALUES ($1, 'k', '', 201, '{}', '', '{}', now() - interval '2 days')`, b.User)
	claim, err := b.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer claim.Rollback(t.Context()) //nolint:errcheck // committed below
	_, err = claim.Exec(t.Context(), "UPDATE idempotency_keys SET created_at = now()")
	require.NoError(t, err)
	require.Empty(t, b.round(0))
	require.NoError(t, claim.Commit(t.Context()))
	require.Equal(t, 1, b.count("SELECT count(*) FROM idempotency_keys"))
}

// TestOneJanitorAtATime holds the lock as another replica would, then lets many start at once.
func TestOneJanitorAtATime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	item := b.Item(t, b.Collection(t), "old", "")
	b.Delete(t, item)
	b.seen(item)
	other, err := b.Pool.Acquire(t.Context())
	require.NoError(t, err)
	var locked bool
	require.NoError(t, other.QueryRow(t.Context(), "SELECT pg_try_advisory_lock(x'6a616e69746f72'::bigint)").Scan(&locked))
	require.True(t, locked)
	require.Nil(t, b.round(time.Nanosecond))
	require.Equal(t, 1, b.count("SELECT count(*) FROM items"))
	require.NoError(t, other.Conn().Close(t.Context()))
	other.Release()
	require.Eventually(t, func() bool { return b.round(time.Nanosecond) != nil }, time.Minute, 5*time.Millisecond)
	require.Zero(t, b.count("SELECT count(*) FROM items"))

	var janitors sync.WaitGroup
	for range 6 {
		janitors.Go(func() { b.round(time.Nanosecond) })
	}
	janitors.Wait()
	require.Zero(t, b.count("SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE l.locktype = 'advisory' AND d.datname = current_database()"))
}

func TestRoundsFollowEachOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	collection := b.Collection(t)
	registry := prometheus.NewRegistry()
	j := janitor.New(janitor.Config{Retention: time.Millisecond, Interval: 10 * time.Millisecond}, janitor.Deps{
		Logger: kafkatest.Logger(t), Pool: b.Pool, Registerer: registry,
	})
	stop := kafkatest.Start(t, func(ctx context.Context) error { j.Run(ctx); return nil })
	for range 3 {
		item := b.Item(t, collection, "old", "")
		b.Delete(t, item)
		b.seen(item)
		require.Eventually(t, func() bool { return b.count("SELECT count(*) FROM items") == 0 }, time.Minute, 5*time.Millisecond)
	}
	stop()
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	require.Empty(t, problems)
	n, err := testutil.GatherAndCount(registry, "atlas_janitor_rows_removed_total")
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

func TestFinishedJobsGoAfterTheirTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := func(state, finished string) {
		b.Exec(t, "INSERT INTO jobs (id, type, state, finished_at) VALUES ($1, 'test', $2, now() - nullif($3, '')::interval)", uuid.New(), state, finished)
	}
	for range 3 {
		job("SUCCEEDED", "31 days")
		job("FAILED", "31 days")
		job("CANCELLED", "29 days")
		job("QUEUED", "")
	}
	require.EqualValues(t, 6, b.round(time.Hour)["jobs"])
	require.Equal(t, 6, b.count("SELECT count(*) FROM jobs"))
}

// TestAJobThatIsBeingRetriedStays has retries that are not committed when the janitor comes: of a job that has been kept long enough, and of one whose
// collection has.
func TestAJobThatIsBeingRetriedStays(t *testing.T) {
	t.Parallel()
	for name, collected := range map[string]bool{"old": false, "of an old collection": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			id := uuid.New()
			b.Exec(t, "INSERT INTO jobs (id, type, state, finished_at) VALUES ($1, 'test', 'FAILED', now() - interval '31 days')", id)
			if collected {
				collection := b.Collection(t)
				b.Exec(t, "UPDATE collections SET deleted_at = now() WHERE id = $1", collection)
				b.Exec(t, "UPDATE jobs SET finished_at = now(), collection_id = $2 WHERE id = $1", id, collection)
			}
			retry, err := b.Pool.Begin(t.Context())
			require.NoError(t, err)
			defer retry.Rollback(t.Context()) //nolint:errcheck // committed below
			_, err = jobs.Retry(t.Context(), db.New(retry), id, nil)
			require.NoError(t, err)

			round := make(chan map[string]int64, 1)
			go func() { round <- b.round(time.Nanosecond) }()
			require.Eventually(t, func() bool {
				return len(round) == 1 || b.count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0
			}, time.Minute, 5*time.Millisecond)
			require.NoError(t, retry.Commit(t.Context()))
			require.Empty(t, <-round)
			require.Equal(t, 1, b.count("SELECT count(*) FROM jobs WHERE id = $1 AND state = 'QUEUED'", id))
		})
	}
}
