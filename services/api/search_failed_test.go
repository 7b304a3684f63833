package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/search"
	"github.com/atlas-platform/atlas/services/api"
)

// TestARefusedItemSaysSo against an index whose mapping somebody changed by hand: Atlas's own takes every item.
func TestARefusedItemSaysSo(t *testing.T) {
	t.Parallel()
	pool, es := pgtest.New(t), indexingtest.Client(t)
	alias := indexingtest.NewAlias(t, es)
	definition, err := elastic.Definition(elastic.Params{})
	require.NoError(t, err)
	definition.Mappings["properties"].(map[string]any)["tags"] = map[string]any{"type": "long"}
	indexingtest.Replace(t, es, alias, map[string]any{"settings": definition.Settings, "mappings": definition.Mappings})
	b := setupDeps(t, pool, search.NewElasticsearch(es, alias), func(d *api.Deps) { d.SearchWait = time.Hour }) // the test's own limit is shorter
	indexer := indexing.New(pool, es, alias)
	sync := func(item string) []indexing.Rejection {
		rejected, err := indexer.Sync(t.Context(), []indexing.Target{{ItemID: uuid.MustParse(item)}})
		require.NoError(t, err)
		return rejected
	}

	ada := b.account("ada")
	item := b.item(ada, b.collection(ada, "c"), "title", "42")
	require.Empty(t, sync(item))
	b.call(ada, "PATCH", "/v1/items/"+item, map[string]any{"tags": []string{"words"}}).is(http.StatusOK)
	require.Len(t, sync(item), 1)

	a := b.call(ada, "GET", "/v1/items/"+item, nil).is(http.StatusOK)
	require.Equal(t, "failed", a.body["search_state"])
	require.Contains(t, a.body["search_error"], "failed to parse field [tags]")
	require.Equal(t, "failed", b.call(ada, "GET", "/v1/items", nil).is(http.StatusOK).items()[0]["search_state"])
	hit := b.call(ada, "GET", "/v1/search?wait_for="+item+":2", nil).is(http.StatusOK)
	require.Equal(t, false, hit.body["fresh"], "nothing is waited for that will never come")

	// The next change is another chance.
	b.call(ada, "PATCH", "/v1/items/"+item, map[string]any{"tags": []string{"43"}}).is(http.StatusOK)
	require.Equal(t, "indexing", b.call(ada, "GET", "/v1/items/"+item, nil).body["search_state"])
	require.Empty(t, sync(item))
	a = b.call(ada, "GET", "/v1/items/"+item, nil)
	require.Equal(t, "indexed", a.body["search_state"])
	require.NotContains(t, a.body, "search_error")
	var forgotten bool
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT failed_version IS NULL AND failed_reason IS NULL FROM item_index_state WHERE item_id = $1", item).Scan(&forgotten))
	require.True(t, forgotten)
}
