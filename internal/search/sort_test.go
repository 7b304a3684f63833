package search_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/search"
)

// sortConforms holds every Searcher to the same orders.
func sortConforms(t *testing.T, setup func(t *testing.T) world) {
	t.Helper()
	t.Run("orders, page by page", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		var made []uuid.UUID
		for i := range 6 {
			made = append(made, w.Item(t, c, fmt.Sprintf("item %d", i), "needle "+fmt.Sprint(i)))
		}
		// Two were updated in the same millisecond, then the one with the lower ID a microsecond later: the newer comes first all the same.
		for i, at := range map[int]string{
			0: "2026-03-01T00:00:00.5009Z", 1: "2026-03-01T00:00:00.5Z", 2: "2026-03-05T00:00:00Z", 3: "2026-03-02T00:00:00Z",
			4: "2026-02-01T00:00:00Z", 5: "1969-12-31T23:59:59.9995Z",
		} {
			w.Exec(t, "UPDATE items SET updated_at = $2 WHERE id = $1", made[i], at)
		}
		w.publish(t, made...)
		reversed := slices.Clone(made)
		slices.Reverse(reversed)
		updated := []uuid.UUID{made[2], made[3], made[1], made[0], made[4], made[5]}
		for _, text := range []string{"needle", "", "-other"} {
			for sort, want := range map[search.Sort][]uuid.UUID{search.Newest: reversed, search.Oldest: made, search.LastUpdated: updated} {
				q := search.Query{Match: parse(t, text), CollectionIDs: []uuid.UUID{c}, Sort: sort, Limit: 1}
				var seen []uuid.UUID
				for range 7 {
					page, err := w.searcher.Search(t.Context(), q)
					require.NoError(t, err)
					require.EqualValues(t, 6, page.Total)
					seen = append(seen, ids(page)...)
					if text == "needle" {
						require.Contains(t, page.Hits[0].Snippet, "<mark>needle</mark>")
					}
					if q.Cursor = page.NextCursor; q.Cursor == "" {
						break
					}
					other := q
					other.Sort = map[search.Sort]search.Sort{
						search.Newest: search.Oldest, search.Oldest: search.LastUpdated, search.LastUpdated: search.Newest,
					}[sort]
					_, err = w.searcher.Search(t.Context(), other)
					require.ErrorIs(t, err, search.ErrCursor)
				}
				require.Equal(t, want, seen, "%s %q", sort, text)
			}
		}
		page, err := w.searcher.Search(t.Context(), search.Query{CollectionIDs: []uuid.UUID{c}, Sort: search.ByRelevance})
		require.NoError(t, err)
		require.Equal(t, reversed, ids(page), "without a text nothing is more relevant")
	})
}
