package search_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/search"
)

// freshConforms holds every Searcher to the same answers once everything is published.
func freshConforms(t *testing.T, setup func(t *testing.T) world) {
	t.Helper()
	t.Run("tells what can be found", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		item, gone := w.Item(t, c, "one", ""), w.Item(t, c, "two", "")
		w.publish(t, item, gone)
		w.Update(t, item, "one again")
		w.Delete(t, gone)
		w.publish(t, item, gone)
		fresh, err := w.searcher.Fresh(t.Context(), []search.Write{
			{ItemID: item, Version: 3, Committed: 2, Indexed: 2},
			{ItemID: item, Version: 2, Committed: 2, Indexed: 2},
			{ItemID: item, Version: 1, Committed: 2, Indexed: 2},
			{ItemID: gone, Version: 1, Committed: 2, Indexed: 2, Deleted: true},
			{ItemID: gone, Version: 2, Committed: 2, Indexed: 2, Deleted: true},
			{ItemID: gone, Version: 3, Committed: 2, Indexed: 2, Deleted: true},
		})
		require.NoError(t, err)
		require.Equal(t, []bool{false, true, true, true, true, false}, fresh.Found)
		require.False(t, fresh.Degraded)
		fresh, err = w.searcher.Fresh(t.Context(), nil)
		require.NoError(t, err)
		require.Empty(t, fresh.Found)
	})
}

// TestElasticsearchIsFreshAfterARefresh: what the index was given is not what it shows.
func TestElasticsearchIsFreshAfterARefresh(t *testing.T) {
	t.Parallel()
	es := indexingtest.Client(t)
	alias := indexingtest.NewAlias(t, es)
	w := worldOn(t, es, alias)
	setRefresh(t, es, alias, "-1")
	c := w.Collection(t)
	item := w.Item(t, c, "one", "")
	indexer := indexing.New(w.Pool, es, alias)
	sync := func() {
		rejected, err := indexer.Sync(context.Background(), []indexing.Target{{ItemID: item}})
		require.NoError(t, err)
		require.Empty(t, rejected)
	}
	fresh := func(write search.Write) bool {
		found, err := w.searcher.Fresh(t.Context(), []search.Write{write})
		require.NoError(t, err)
		return found.Found[0]
	}
	sync()
	created := search.Write{ItemID: item, Version: 1, Committed: 1, Indexed: 1}
	require.False(t, fresh(created))
	indexingtest.Refresh(t, es, alias)
	require.True(t, fresh(created))
	require.False(t, fresh(search.Write{ItemID: item, Version: 1, Committed: 1}), "not indexed")

	w.Delete(t, item)
	sync()
	deleted := search.Write{ItemID: item, Version: 2, Committed: 2, Indexed: 2, Deleted: true}
	require.False(t, fresh(deleted))
	require.True(t, fresh(search.Write{ItemID: item, Version: 1, Committed: 2, Indexed: 2, Deleted: true}), "still there")
	indexingtest.Refresh(t, es, alias)
	require.True(t, fresh(deleted))
	require.False(t, fresh(search.Write{ItemID: uuid.New(), Version: 1, Committed: 1, Indexed: 1}))
}
