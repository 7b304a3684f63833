package indexing_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

func indexedVersion(t *testing.T, seed *indexingtest.Seed, id uuid.UUID) int64 {
	t.Helper()
	var version int64
	require.NoError(t, seed.Pool.QueryRow(context.Background(), "SELECT coalesce(max(indexed_version), 0) FROM item_index_state WHERE item_id = $1", id).Scan(&version))
	return version
}

func TestSyncFollowsTheRow(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	pool, es := pgtest.New(t), indexingtest.Client(t)
	alias, seed := indexingtest.NewAlias(t, es), indexingtest.NewSeed(t, pool)
	indexer := indexing.New(pool, es, alias)
	sync := func(targets ...indexing.Target) {
		t.Helper()
		rejected, err := indexer.Sync(ctx, targets)
		require.NoError(t, err)
		require.Empty(t, rejected)
	}
	c := seed.Collection(t)
	id := seed.Item(t, c, "one", "text", "b", "a")
	target := indexing.Target{ItemID: id}

	sync(target, target)
	stored := indexingtest.Get(t, es, alias, id)
	require.True(t, stored.Found)
	require.EqualValues(t, 1, stored.Version)
	require.Equal(t, "one", stored.Source["title"])
	require.Equal(t, []any{"a", "b"}, stored.Source["tags"])
	require.EqualValues(t, 1, indexedVersion(t, seed, id))

	seed.Update(t, id, "two")
	sync(target)
	sync(target) // the same again: a conflict, and that is fine
	require.EqualValues(t, 2, indexingtest.Get(t, es, alias, id).Version)
	require.EqualValues(t, 2, indexedVersion(t, seed, id))

	seed.Delete(t, id)
	sync(target)
	sync(target)
	require.False(t, indexingtest.Get(t, es, alias, id).Found)
	require.EqualValues(t, 3, indexedVersion(t, seed, id))

	gone := uuid.Must(uuid.NewV7()) // no row, no document
	sync(indexing.Target{ItemID: gone, Version: 4})
	require.False(t, indexingtest.Get(t, es, alias, gone).Found)
	var states int
	require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FROM item_index_state WHERE item_id = $1", gone).Scan(&states))
	require.Zero(t, states, "what was erased leaves no state behind")
}

// TestSyncFollowsAMoveAndTheTrash takes an item through what may become of it: each step has a higher version, so a document never goes back.
func TestSyncFollowsAMoveAndTheTrash(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	pool, es := pgtest.New(t), indexingtest.Client(t)
	alias, seed := indexingtest.NewAlias(t, es), indexingtest.NewSeed(t, pool)
	indexer := indexing.New(pool, es, alias)
	from, to := seed.Collection(t), seed.Collection(t)
	id := seed.Item(t, from, "one", "text", "a")
	sync := func(version int64) indexingtest.Stored {
		t.Helper()
		rejected, err := indexer.Sync(ctx, []indexing.Target{{ItemID: id, Version: version}})
		require.NoError(t, err)
		require.Empty(t, rejected)
		return indexingtest.Get(t, es, alias, id)
	}
	require.Equal(t, from.String(), sync(1).Source["collection_id"])

	seed.Exec(t, "UPDATE items SET collection_id = $2, version = 2 WHERE id = $1", id, to)
	moved := sync(2)
	require.Equal(t, to.String(), moved.Source["collection_id"])
	require.EqualValues(t, 2, moved.Version)

	seed.Delete(t, id)
	require.False(t, sync(3).Found)
	seed.Exec(t, "UPDATE items SET deleted_at = NULL, version = 4 WHERE id = $1", id)
	restored := sync(4)
	require.True(t, restored.Found)
	require.EqualValues(t, 4, restored.Version)
	require.True(t, sync(3).Found, "a late event of the deletion finds the row as it is")
	require.EqualValues(t, 4, indexedVersion(t, seed, id))

	seed.Delete(t, id)
	seed.Exec(t, "WITH untagged AS (DELETE FROM item_tags) DELETE FROM items WHERE id = $1", id) // erased before the index heard of it
	require.False(t, sync(5).Found)
}

func TestItemsOfADeletedCollectionLeaveTheIndex(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	pool, es := pgtest.New(t), indexingtest.Client(t)
	alias, seed := indexingtest.NewAlias(t, es), indexingtest.NewSeed(t, pool)
	indexer := indexing.New(pool, es, alias)
	c := seed.Collection(t)
	id := seed.Item(t, c, "one", "")
	_, err := indexer.Sync(ctx, []indexing.Target{{ItemID: id}})
	require.NoError(t, err)
	seed.Exec(t, "UPDATE collections SET deleted_at = now() WHERE id = $1", c)
	_, err = indexer.Sync(ctx, []indexing.Target{{ItemID: id}})
	require.NoError(t, err)
	require.False(t, indexingtest.Get(t, es, alias, id).Found)
}

func TestRewriteMendsADocumentOfTheSameVersion(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	pool, es := pgtest.New(t), indexingtest.Client(t)
	alias, seed := indexingtest.NewAlias(t, es), indexingtest.NewSeed(t, pool)
	indexer := indexing.New(pool, es, alias)
	id := seed.Item(t, seed.Collection(t), "right", "")
	_, err := elastic.NewBulkWriter(es, alias, 0).Write(ctx, []elastic.BulkAction{
		{ID: id.String(), Version: 1, VersionType: elastic.VersionExternal, Document: []byte(`{"title":"wrong"}`)},
	})
	require.NoError(t, err)
	_, err = indexer.Sync(ctx, []indexing.Target{{ItemID: id}})
	require.NoError(t, err)
	require.Equal(t, "wrong", indexingtest.Get(t, es, alias, id).Source["title"])
	_, err = indexer.Rewrite(ctx, []indexing.Target{{ItemID: id}})
	require.NoError(t, err)
	require.Equal(t, "right", indexingtest.Get(t, es, alias, id).Source["title"])
}

func TestARecordedVersionNeverGoesBack(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	pool, es := pgtest.New(t), indexingtest.Client(t)
	alias, seed := indexingtest.NewAlias(t, es), indexingtest.NewSeed(t, pool)
	id := seed.Item(t, seed.Collection(t), "one", "")
	seed.Exec(t, "INSERT INTO item_index_state (item_id, indexed_version, indexed_at) VALUES ($1, 9, $2)", id, time.Unix(0, 0))
	_, err := indexing.New(pool, es, alias).Sync(ctx, []indexing.Target{{ItemID: id}})
	require.NoError(t, err)
	require.EqualValues(t, 9, indexedVersion(t, seed, id))
}
