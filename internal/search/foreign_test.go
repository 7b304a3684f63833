package search_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/search"
)

// foreignConforms holds every Searcher to answers that tell nothing of items in other collections: not that they are there, nor how many of them
// have a word, nor how long they are.
func foreignConforms(t *testing.T, setup func(t *testing.T) world) {
	t.Helper()

	t.Run("others' items change nothing", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		mine, foreign := w.Collection(t), w.Collection(t)
		long := strings.Repeat("apples and pears. Boil the water for the fig trees. ", 20)
		w.publish(
			t, w.Item(t, mine, "Apple", "pear", "go"), w.Item(t, mine, "apple apple apple", "pear fig"), w.Item(t, mine, "pear pear pear", "apple"),
			w.Item(t, mine, "Fruit", long, "go"), w.Item(t, mine, "King of the hill", "an apple on a wi-fi router"),
			w.Item(t, mine, "a king", "kings of the hill apple pear"),
		)
		seen := func() map[string]string {
			out := make(map[string]string)
			show := func(name string, answer any, err error) {
				require.NoError(t, err, name)
				raw, err := json.Marshal(answer)
				require.NoError(t, err)
				out[name] = string(raw)
			}
			in := []uuid.UUID{mine}
			for _, text := range []string{
				"apple", "apples pear", `"apple pear"`, `apple -"the hill"`, `"king of the hill"`, "wi-fi", "apple tag:go", "", "pear kink",
			} {
				page, err := w.searcher.Search(t.Context(), search.Query{
					Match: parse(t, text), CollectionIDs: in, TagFacet: true, CollectionFacet: true, Correct: true,
				})
				for _, hit := range page.Hits {
					require.Equal(t, mine, hit.CollectionID)
				}
				show(text, page, err)
				if text != "apple" && text != "apples pear" {
					continue
				}
				var pages []search.Hit
				for cursor, more := "", true; more; more = cursor != "" {
					page, err := w.searcher.Search(t.Context(), search.Query{Match: parse(t, text), CollectionIDs: in, Limit: 1, Cursor: cursor})
					require.NoError(t, err, text)
					pages, cursor = append(pages, page.Hits...), page.NextCursor
				}
				show(text+", in pages", pages, nil)
			}
			for _, text := range []string{"a", "king of"} {
				found, err := w.searcher.Suggest(t.Context(), search.Prefix{Text: text, CollectionIDs: in})
				show(text+"…", found, err)
			}
			return out
		}
		before := seen()
		require.Contains(t, before["apple"], `"Apple"`)
		w.compact(t)
		require.Equal(t, before, seen(), "merged")
		for i, text := range []string{"apple", "pear", "apple pear king hill wi-fi fig router", strings.Repeat("apple ", 2000), strings.Repeat("other words ", 500), "kings"} {
			item := w.Item(t, foreign, fmt.Sprintf("%.500s", text), text, "go", "apple")
			w.publish(t, item, w.Item(t, foreign, "x", text), w.Item(t, foreign, fmt.Sprintf("%.300s", text), ""))
			require.Equal(t, before, seen(), "item %d of theirs", i)
			w.Delete(t, item)
			w.publish(t, item)
			require.Equal(t, before, seen(), "deletion %d of theirs", i)
		}
		w.compact(t)
		require.Equal(t, before, seen(), "merged again")
	})
}

// TestElasticsearchRanks says what the order is, now that it isn't the engine's own.
func TestElasticsearchRanks(t *testing.T) {
	t.Parallel()
	w := elasticsearchWorld(t)
	for _, tt := range []struct {
		name, text    string
		better, worse [2]string // title and content
	}{
		{"the title counts more than the content", "apple", [2]string{"an apple", "x"}, [2]string{"x", "an apple"}},
		{"even often in the content", "apple", [2]string{"an apple for each of us", "x"}, [2]string{"x", strings.Repeat("apple ", 50)}},
		{"the word to the letter counts more", "apples", [2]string{"x", "apples"}, [2]string{"x", "apple"}},
		{"in a title too", "apples", [2]string{"apples", ""}, [2]string{"apple", ""}},
		{"a short title counts more", "apple", [2]string{"apple", ""}, [2]string{"apple and one two three four five six", ""}},
		{"a short content counts more", "apple", [2]string{"", "apple"}, [2]string{"", "apple" + strings.Repeat(" other", 300)}},
		{"often counts more than once", "apple", [2]string{"", "apple apple apple here"}, [2]string{"", "one apple over here"}},
		{"all words in the title", "apple pear", [2]string{"apple pear", "x"}, [2]string{"apple", "pear"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := w.Collection(t)
			better := w.Item(t, c, tt.better[0], tt.better[1])
			worse := w.Item(t, c, tt.worse[0], tt.worse[1])
			w.publish(t, better, worse)
			page, err := w.searcher.Search(t.Context(), search.Query{Match: parse(t, tt.text), CollectionIDs: []uuid.UUID{c}})
			require.NoError(t, err)
			require.Equal(t, []uuid.UUID{better, worse}, ids(page))
			require.Greater(t, page.Hits[0].Score, page.Hits[1].Score)
			require.Positive(t, page.Hits[1].Score)
		})
	}

	t.Run("scores have bounds", func(t *testing.T) {
		t.Parallel()
		c := w.Collection(t)
		words := make([]string, 60)
		for i := range words {
			words[i] = fmt.Sprintf("word%d", i)
		}
		all := strings.Join(words, " ")
		w.publish(t, w.Item(t, c, all, strings.Repeat(all+" ", 1000)), w.Item(t, c, "", strings.Repeat("word1 ", 150_000)), w.Item(t, c, "word1", ""))
		for _, text := range []string{"word1", all, `"` + all + `"`} {
			page, err := w.searcher.Search(t.Context(), search.Query{Match: parse(t, text), CollectionIDs: []uuid.UUID{c}})
			require.NoError(t, err)
			require.NotEmpty(t, page.Hits)
			for _, hit := range page.Hits {
				require.Positive(t, hit.Score, text)
				require.Less(t, hit.Score, 1000., text)
			}
		}
	})
}
