package search_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/search"
)

// suggestConforms holds every Searcher to one completion of titles.
func suggestConforms(t *testing.T, setup func(t *testing.T) world) {
	t.Helper()

	t.Run("titles are completed", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c, d, foreign := w.Collection(t), w.Collection(t), w.Collection(t)
		names := make(map[uuid.UUID]string)
		add := func(collection uuid.UUID, title string) uuid.UUID {
			id := w.Item(t, collection, title, "replicated consumers of contents", "contag")
			names[id] = title
			return id
		}
		w.publish(
			t, add(c, "Kafka consumers, replicated"), add(c, "Replicating Kafka"), add(d, "The hobbit"), add(d, "Happy days in Köln"),
			add(c, "Wi-Fi at example.com"), add(foreign, "Kafka secrets"), add(foreign, "Replicants"), add(d, "kafka"),
		)
		for text, want := range map[string][]string{
			"k":                  {"kafka", "Kafka consumers, replicated", "Happy days in Köln", "Replicating Kafka"},
			"kafka":              {"kafka", "Kafka consumers, replicated", "Replicating Kafka"},
			" KAFKA ":            {"kafka", "Kafka consumers, replicated", "Replicating Kafka"},
			"repl":               {"Replicating Kafka", "Kafka consumers, replicated"},
			"replicat":           {"Replicating Kafka", "Kafka consumers, replicated"},
			"replicati":          {"Replicating Kafka"},
			"replicating":        {"Replicating Kafka"},
			"replicated kaf":     {"Kafka consumers, replicated"},
			"kafka repl":         {"Replicating Kafka", "Kafka consumers, replicated"},
			"kafk repl":          {},
			"kafka consumers,":   {"Kafka consumers, replicated"},
			"happy":              {"Happy days in Köln"},
			"days köl":           {"Happy days in Köln"},
			"the ho":             {"The hobbit"},
			"the":                {"The hobbit"},
			"hobbit the":         {"The hobbit"},
			"wi f":               {"Wi-Fi at example.com"},
			"wi-fi":              {"Wi-Fi at example.com"},
			"at example.c":       {"Wi-Fi at example.com"},
			"secrets":            {},
			"contag":             {},
			"contents":           {},
			`- ' . " \ :* & | !`: {},
			" ":                  {},
		} {
			found, err := w.searcher.Suggest(t.Context(), search.Prefix{Text: text, CollectionIDs: []uuid.UUID{c, d}})
			require.NoError(t, err, text)
			require.Equal(t, want, titles(found), text)
			for _, item := range found.Items {
				require.Equal(t, names[item.ItemID], item.Title)
				require.Contains(t, []uuid.UUID{c, d}, item.CollectionID)
			}
		}
		found, err := w.searcher.Suggest(t.Context(), search.Prefix{Text: "k", CollectionIDs: []uuid.UUID{c, d}, Limit: 2})
		require.NoError(t, err)
		require.Equal(t, []string{"kafka", "Kafka consumers, replicated"}, titles(found))
		found, err = w.searcher.Suggest(t.Context(), search.Prefix{Text: "kafka"})
		require.NoError(t, err)
		require.Empty(t, found.Items)
	})

	t.Run("odd beginnings are no failures", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		w.publish(t, w.Item(t, c, `O'Neill \ "quoted" 100% a_b`, ""))
		for _, text := range []string{
			"o'n", `O'Neill \ "q`, "100%", "%", "_", "a_", "世界", "e\u0301", "🚀", "''a''", `\'a`, "a:*", "İ", "ß", "\U0010ffff", "a\U0010ffff",
			strings.Repeat("a ", 100), strings.Repeat("x", 200), strings.Repeat("𠀀", 200), "1.5", "-1", "²", "x'", "\ufffd",
		} {
			_, err := w.searcher.Suggest(t.Context(), search.Prefix{Text: text, CollectionIDs: []uuid.UUID{c}})
			require.NoError(t, err, text)
		}
		for _, text := range []string{"o'n", "quo", "100"} {
			found, err := w.searcher.Suggest(t.Context(), search.Prefix{Text: text, CollectionIDs: []uuid.UUID{c}})
			require.NoError(t, err, text)
			require.Len(t, found.Items, 1, text)
		}
	})

	t.Run("the newest are suggested first", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		var all []uuid.UUID
		for i := range 5 {
			all = append(all, w.Item(t, c, fmt.Sprintf("note %d", i), ""))
		}
		w.publish(t, all...)
		suggest := func() []string {
			found, err := w.searcher.Suggest(t.Context(), search.Prefix{Text: "not", CollectionIDs: []uuid.UUID{c}, Limit: 3})
			require.NoError(t, err)
			return titles(found)
		}
		require.Equal(t, []string{"note 4", "note 3", "note 2"}, suggest())
		w.Delete(t, all[4])
		w.publish(t, all[4])
		require.Equal(t, []string{"note 3", "note 2", "note 1"}, suggest())
	})
}

func titles(s search.Suggestions) []string {
	out := []string{}
	for _, item := range s.Items {
		out = append(out, item.Title)
	}
	return out
}
