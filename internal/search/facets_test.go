package search_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/search"
)

// facetsConform holds every Searcher to the same counts.
func facetsConform(t *testing.T, setup func(t *testing.T) world) {
	t.Helper()
	t.Run("facets count all matches in the given collections", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c, d, foreign := w.Collection(t), w.Collection(t), w.Collection(t)
		w.publish(
			t, w.Item(t, c, "fox", "", "b", "a", "B"), w.Item(t, c, "fox", "", "b"), w.Item(t, d, "fox", ""), w.Item(t, d, "bear", "", "b"),
			w.Item(t, foreign, "fox", "", "secret", "b"),
		)
		mine := []uuid.UUID{c, d}
		ask := func(text string, in ...uuid.UUID) search.Page {
			page, err := w.searcher.Search(t.Context(), search.Query{
				Match: parse(t, text), CollectionIDs: in, TagFacet: true, CollectionFacet: true, Limit: 1,
			})
			require.NoError(t, err)
			return page
		}
		page := ask("fox", mine...)
		require.Len(t, page.Hits, 1)
		require.Equal(t, []search.TagCount{{Tag: "b", Items: 2}, {Tag: "B", Items: 1}, {Tag: "a", Items: 1}}, page.Tags)
		require.Equal(t, []search.CollectionCount{{CollectionID: c, Items: 2}, {CollectionID: d, Items: 1}}, page.Collections)
		page = ask("tag:b", mine...)
		require.EqualValues(t, 3, page.Tags[0].Items)
		for _, page := range []search.Page{ask("elephant", mine...), ask("fox")} {
			require.NotNil(t, page.Tags)
			require.NotNil(t, page.Collections)
			require.Empty(t, page.Tags)
			require.Empty(t, page.Collections)
		}
		unasked, err := w.searcher.Search(t.Context(), search.Query{CollectionIDs: mine})
		require.NoError(t, err)
		require.Nil(t, unasked.Tags)
		require.Nil(t, unasked.Collections)
	})
}
