package search_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/elastic/go-elasticsearch/v8"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/search"
)

// extractsConform is what every Searcher makes of the pages at items' sources.
func extractsConform(t *testing.T, setup func(t *testing.T) world) {
	t.Helper()
	find := func(t *testing.T, w world, c uuid.UUID, text string) search.Page {
		t.Helper()
		page, err := w.searcher.Search(t.Context(), search.Query{Match: parse(t, text), CollectionIDs: []uuid.UUID{c}, Correct: true})
		require.NoError(t, err, text)
		return page
	}

	t.Run("a page's text is found, less than title and content", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		page, content, title := w.Item(t, c, "a", "b"), w.Item(t, c, "a", "replication"), w.Item(t, c, "replication", "b")
		other := w.Item(t, c, "a", "b")
		w.Extract(t, page, "replication")
		w.Extract(t, other, "something else")
		w.publish(t, page, content, title, other)
		require.Equal(t, []uuid.UUID{title, content, page}, ids(find(t, w, c, "replicated")))
		require.Equal(t, []uuid.UUID{title, content, page}, ids(find(t, w, c, "replication")))
	})

	t.Run("words may be in several places, phrases may not", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		both := w.Item(t, c, "title", "content finishes somewhere")
		w.Extract(t, both, "begins the page and goes on")
		w.publish(t, both)
		for text, found := range map[string]bool{
			"title content page": true, `"page and goes on"`: true, `"page goes on"`: false, `"somewhere begins"`: false, `"title content"`: false,
			"title -page": false, `title -"begins the page"`: false, `title -"somewhere begins"`: true, "title -missing": true, `"begins a page"`: true,
		} {
			require.Len(t, find(t, w, c, text).Hits, map[bool]int{true: 1}[found], text)
		}
	})

	t.Run("what was found on the page is shown as such", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		item := w.Item(t, c, "title", "the item's own content")
		w.Extract(t, item, strings.Repeat("before ", 200)+"<i>needle & thread</i> \x02 "+strings.Repeat("after ", 200))
		w.publish(t, item)
		hit := find(t, w, c, "needle").Hits[0]
		require.Contains(t, hit.ExtractSnippet, "<mark>needle</mark>")
		require.NotContains(t, hit.ExtractSnippet, "<i>")
		require.NotContains(t, hit.ExtractSnippet, "\x02")
		require.Less(t, len(hit.ExtractSnippet), 1000)
		require.NotContains(t, hit.Snippet, "needle")
		require.Empty(t, find(t, w, c, "content").Hits[0].ExtractSnippet)
		require.Empty(t, find(t, w, c, "").Hits[0].ExtractSnippet)
		for _, sort := range []search.Sort{search.Newest, search.Oldest, search.LastUpdated} {
			page, err := w.searcher.Search(t.Context(), search.Query{Match: parse(t, "needle"), CollectionIDs: []uuid.UUID{c}, Sort: sort})
			require.NoError(t, err)
			require.Contains(t, page.Hits[0].ExtractSnippet, "<mark>needle</mark>", sort)
		}
	})

	t.Run("a page goes with its source", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		item := w.Item(t, c, "title", "content")
		w.Extract(t, item, "needle")
		w.publish(t, item)
		require.Len(t, find(t, w, c, "needle").Hits, 1)
		w.Update(t, item, "another title")
		w.publish(t, item)
		require.Len(t, find(t, w, c, "needle another").Hits, 1, "a change of the item leaves it")
		w.Exec(t, "UPDATE items SET source_url = 'https://example.com/other', version = version + 1 WHERE id = $1", item)
		w.publish(t, item)
		require.Empty(t, find(t, w, c, "needle").Hits)
		require.Len(t, find(t, w, c, "another content").Hits, 1)
	})

	t.Run("long pages", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		items := []uuid.UUID{w.Item(t, c, "one", strings.Repeat("日本語 ", 80_000)), w.Item(t, c, "two", strings.Repeat("a b c d ", 30_000))}
		w.Extract(t, items[0], strings.Repeat("\U00020000\U00020001 ", 25_000))
		w.Extract(t, items[1], strings.Repeat("x", 200_000)+" needle")
		w.publish(t, items...)
		require.Len(t, find(t, w, c, "").Hits, 2)
	})
}

// TestAMissingWordOnAPageIsCorrected has the word on a page only.
func TestAMissingWordOnAPageIsCorrected(t *testing.T) {
	t.Parallel()
	w := elasticsearchWorld(t)
	c := w.Collection(t)
	item := w.Item(t, c, "title", "content")
	w.Extract(t, item, "a word on the page: sourdough")
	w.publish(t, item)
	page, err := w.searcher.Search(t.Context(), search.Query{Match: parse(t, "title sourdouhg"), CollectionIDs: []uuid.UUID{c}, Correct: true})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"sourdouhg": "sourdough"}, page.Corrections)
}

// TestAnIndexOfTheVersionBefore has no field for pages, and takes no others than it has.
func TestAnIndexOfTheVersionBefore(t *testing.T) {
	t.Parallel()
	es := indexingtest.Client(t)
	alias := indexingtest.NewAlias(t, es)
	body := mappingOf(t, es, alias)
	delete(body["mappings"].(map[string]any)["properties"].(map[string]any), "extract")
	indexingtest.ReplaceWith(t, es, alias, "old-"+alias, body) // a name that the template is not for
	w := worldOn(t, es, alias)
	c := w.Collection(t)
	item, other := w.Item(t, c, "title", "content"), w.Item(t, c, "other", "content")
	w.Extract(t, item, "needle")
	rejected, err := indexing.New(w.Pool, es, alias).Sync(t.Context(), []indexing.Target{{ItemID: item}, {ItemID: other}})
	require.NoError(t, err)
	require.Empty(t, rejected)
	require.EqualValues(t, 2, indexingtest.Get(t, es, alias, item).Version)
	indexingtest.Refresh(t, es, alias)
	for text, found := range map[string]int{"content": 2, "title": 1, `"title"`: 1, "needle": 0, "content -needle": 2, "king of the hill": 0} {
		page, err := w.searcher.Search(t.Context(), search.Query{Match: parse(t, text), CollectionIDs: []uuid.UUID{c}, Correct: true})
		require.NoError(t, err, text)
		require.Len(t, page.Hits, found, text)
	}
}

// mappingOf is the definition of the index behind the alias, to make another one of.
func mappingOf(t *testing.T, es *elasticsearch.Client, alias string) map[string]any {
	t.Helper()
	res, err := es.Indices.Get([]string{alias})
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	var answer map[string]struct {
		Mappings map[string]any `json:"mappings"`
		Settings struct {
			Index map[string]any `json:"index"`
		} `json:"settings"`
	}
	require.NoError(t, json.NewDecoder(res.Body).Decode(&answer))
	for _, index := range answer {
		settings := map[string]any{}
		for _, name := range []string{"analysis", "similarity", "number_of_shards", "number_of_replicas", "gc_deletes"} {
			if value, there := index.Settings.Index[name]; there {
				settings[name] = value
			}
		}
		return map[string]any{"mappings": index.Mappings, "settings": map[string]any{"index": settings}}
	}
	t.Fatal("the alias has no index")
	return nil
}
