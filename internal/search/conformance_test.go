package search_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/elastic/go-elasticsearch/v8"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/search"
	"github.com/atlas-platform/atlas/internal/search/query"
)

// world is what the conformance suite searches: the items of one test, and how to make them searchable.
type world struct {
	*indexingtest.Seed
	searcher search.Searcher
	// publish makes everything seeded so far searchable.
	publish func(t *testing.T, items ...uuid.UUID)
	// compact makes the engine forget what was deleted or replaced.
	compact func(t *testing.T)
}

func TestPostgresConforms(t *testing.T) {
	t.Parallel()
	conformance(t, func(t *testing.T) world {
		pool := pgtest.New(t)
		return world{
			Seed: indexingtest.NewSeed(t, pool), searcher: search.NewPostgres(pool), publish: func(*testing.T, ...uuid.UUID) {},
			compact: func(t *testing.T) {
				t.Helper()
				_, err := pool.Exec(t.Context(), "VACUUM ANALYZE items")
				require.NoError(t, err)
			},
		}
	})
}

func TestElasticsearchConforms(t *testing.T) {
	t.Parallel()
	conformance(t, elasticsearchWorld)
}

func elasticsearchWorld(t *testing.T) world {
	t.Helper()
	es := indexingtest.Client(t)
	return worldOn(t, es, indexingtest.NewAlias(t, es))
}

// worldOn is a world whose items are in the index behind the alias.
func worldOn(t *testing.T, es *elasticsearch.Client, alias string) world {
	t.Helper()
	pool := pgtest.New(t)
	indexer := indexing.New(pool, es, alias)
	return world{
		Seed: indexingtest.NewSeed(t, pool), searcher: search.NewElasticsearch(es, alias),
		publish: func(t *testing.T, items ...uuid.UUID) {
			t.Helper()
			targets := make([]indexing.Target, len(items))
			for i, id := range items {
				targets[i].ItemID = id
			}
			rejected, err := indexer.Sync(context.Background(), targets)
			require.NoError(t, err)
			require.Empty(t, rejected)
			indexingtest.Refresh(t, es, alias)
		},
		compact: func(t *testing.T) {
			t.Helper()
			indexingtest.Merge(t, es, alias)
		},
	}
}

// conformance is what every Searcher has to do.
func conformance(t *testing.T, setup func(t *testing.T) world) {
	t.Helper()
	ctx := context.Background()
	languageConforms(t, setup)
	facetsConform(t, setup)
	sortConforms(t, setup)
	suggestConforms(t, setup)
	freshConforms(t, setup)
	foreignConforms(t, setup)
	extractsConform(t, setup)

	t.Run("finds words in title and content, stemmed", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		title := w.Item(t, c, "Replicating consumers", "nothing else")
		content := w.Item(t, c, "Operations", "The consumer was replicated twice.")
		other := w.Item(t, c, "Cooking", "Boil the water.")
		w.publish(t, title, content, other)
		page, err := w.searcher.Search(ctx, search.Query{Match: parse(t, "replicate consumer"), CollectionIDs: []uuid.UUID{c}})
		require.NoError(t, err)
		require.Equal(t, []uuid.UUID{title, content}, ids(page), "a match in the title comes first")
		require.EqualValues(t, 2, page.Total)
		require.Empty(t, page.NextCursor)
		require.False(t, page.Degraded)
		require.EqualValues(t, 1, page.Hits[0].Version)
		require.Equal(t, c, page.Hits[0].CollectionID)
		require.Equal(t, "Replicating consumers", page.Hits[0].Title)
		require.Positive(t, page.Hits[0].Score)
		require.False(t, page.Hits[0].UpdatedAt.IsZero())
	})

	t.Run("every word is needed, phrases and exclusions work", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		in := []uuid.UUID{c}
		a := w.Item(t, c, "a", "quick brown fox")
		b := w.Item(t, c, "b", "brown bear, quick river")
		w.publish(t, a, b)
		for text, want := range map[string][]uuid.UUID{
			"quick brown":      {a, b},
			`"quick brown"`:    {a},
			"brown -fox":       {b},
			"brown elephant":   {},
			"quick river bear": {b},
		} {
			page, err := w.searcher.Search(ctx, search.Query{Match: parse(t, text), CollectionIDs: in})
			require.NoError(t, err, text)
			require.ElementsMatch(t, want, ids(page), text)
		}
	})

	t.Run("only the given collections, none means nothing", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c, d := w.Collection(t), w.Collection(t)
		mine, theirs := w.Item(t, c, "shared word", ""), w.Item(t, d, "shared word", "")
		w.publish(t, mine, theirs)
		for _, text := range []string{"shared", ""} {
			page, err := w.searcher.Search(ctx, search.Query{Match: parse(t, text), CollectionIDs: []uuid.UUID{c}})
			require.NoError(t, err)
			require.Equal(t, []uuid.UUID{mine}, ids(page))
			page, err = w.searcher.Search(ctx, search.Query{Match: parse(t, text)})
			require.NoError(t, err)
			require.Empty(t, page.Hits)
			require.Zero(t, page.Total)
			page, err = w.searcher.Search(ctx, search.Query{Match: parse(t, text), CollectionIDs: []uuid.UUID{uuid.New()}})
			require.NoError(t, err)
			require.Empty(t, page.Hits)
		}
	})

	t.Run("all tags are needed", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		both, one := w.Item(t, c, "kafka notes", "", "go", "kafka"), w.Item(t, c, "kafka notes", "", "kafka")
		w.publish(t, both, one)
		for _, text := range []string{"notes", ""} {
			page, err := w.searcher.Search(ctx, search.Query{Match: parse(t, text+" tag:go tag:kafka"), CollectionIDs: []uuid.UUID{c}})
			require.NoError(t, err)
			require.Equal(t, []uuid.UUID{both}, ids(page))
			require.Equal(t, []string{"go", "kafka"}, page.Hits[0].Tags)
			require.EqualValues(t, 1, page.Total)
		}
	})

	t.Run("without a text the newest come first", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		first := w.Item(t, c, "first", "")
		second := w.Item(t, c, "second", "")
		w.publish(t, first, second)
		page, err := w.searcher.Search(ctx, search.Query{Match: parse(t, "  "), CollectionIDs: []uuid.UUID{c}})
		require.NoError(t, err)
		require.Equal(t, []uuid.UUID{second, first}, ids(page))
	})

	t.Run("deleted items are not found", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		gone := w.Item(t, c, "ephemeral", "")
		w.publish(t, gone)
		w.Delete(t, gone)
		w.publish(t, gone)
		page, err := w.searcher.Search(ctx, search.Query{Match: parse(t, "ephemeral"), CollectionIDs: []uuid.UUID{c}})
		require.NoError(t, err)
		require.Empty(t, page.Hits)
	})

	t.Run("snippets are safe to render", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		id := w.Item(t, c, "x", "before <script>alert('needle & thread')</script> <mark>needle</mark> after \x02 \x03")
		w.publish(t, id)
		for _, text := range []string{"needle", ""} {
			page, err := w.searcher.Search(ctx, search.Query{Match: parse(t, text), CollectionIDs: []uuid.UUID{c}})
			require.NoError(t, err)
			require.Len(t, page.Hits, 1)
			snippet := page.Hits[0].Snippet
			require.Equal(t, text != "", strings.Contains(snippet, "<mark>needle</mark>"), snippet)
			plain := strings.NewReplacer("<mark>", "", "</mark>", "").Replace(snippet)
			require.NotContains(t, plain, "<")
			require.NotContains(t, plain, ">")
			require.Equal(t, strings.Count(snippet, "<mark>"), strings.Count(snippet, "</mark>"))
		}
	})

	t.Run("pages cover everything once", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		var all []uuid.UUID
		for i := range 7 {
			all = append(all, w.Item(t, c, fmt.Sprintf("page %d", i), "same text"))
		}
		w.publish(t, all...)
		for _, text := range []string{"same text", ""} {
			var seen []uuid.UUID
			q := search.Query{Match: parse(t, text), CollectionIDs: []uuid.UUID{c}, Limit: 3}
			for pages := 1; ; pages++ {
				page, err := w.searcher.Search(ctx, q)
				require.NoError(t, err)
				require.EqualValues(t, 7, page.Total)
				require.LessOrEqual(t, len(page.Hits), 3)
				seen = append(seen, ids(page)...)
				if q.Cursor = page.NextCursor; q.Cursor == "" {
					require.Equal(t, 3, pages)
					break
				}
			}
			slices.Reverse(seen) // equal scores: newest first
			require.Equal(t, all, seen)
		}
	})

	t.Run("a cursor of something else is refused", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		w.publish(t, w.Item(t, c, "one", ""), w.Item(t, c, "two", ""))
		page, err := w.searcher.Search(ctx, search.Query{CollectionIDs: []uuid.UUID{c}, Limit: 1})
		require.NoError(t, err)
		require.NotEmpty(t, page.NextCursor)
		for _, cursor := range []string{"%", "e30", page.NextCursor} {
			_, err = w.searcher.Search(ctx, search.Query{Match: parse(t, "one"), CollectionIDs: []uuid.UUID{c}, Cursor: cursor})
			require.ErrorIs(t, err, search.ErrCursor)
		}
	})

	t.Run("odd texts are no failures", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		for _, text := range []string{`"`, `"unclosed`, "-", "--", "a && b || !", "~3", "foo*", "()", ":*", `\`, "<b>", "+", "|", strings.Repeat("word ", 60), strings.Repeat("-", 1000), strings.Repeat("a-", 500), "a'b 'c' \\' d\\", "世界 🚀 é", "1.5 -2 a/b a_b x@y.z https://x.y/z?q=1#f", strings.Repeat("x", 1000), strings.Repeat("𠀀", 1000), strings.Repeat("𠀀-", 500), strings.Repeat("ab-cd_", 160), strings.Repeat("~/x", 300), "\ufffd"} {
			_, err := w.searcher.Search(ctx, search.Query{Match: parse(t, text), CollectionIDs: []uuid.UUID{c}})
			require.NoError(t, err, text)
		}
	})
}

func parse(t *testing.T, text string) query.Query {
	t.Helper()
	q, err := query.Parse(text)
	require.NoError(t, err, text)
	return q
}

func ids(page search.Page) []uuid.UUID {
	out := make([]uuid.UUID, len(page.Hits))
	for i, h := range page.Hits {
		out[i] = h.ItemID
	}
	return out
}
