package search_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/search"
)

// languageConforms holds every Searcher to one meaning of each construct of the query language.
func languageConforms(t *testing.T, setup func(t *testing.T) world) {
	t.Helper()

	t.Run("each construct has one meaning", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		items := make(map[string]uuid.UUID)
		add := func(name, created, title, content string, tags ...string) {
			items[name] = w.Item(t, c, title, content, tags...)
			w.Exec(t, "UPDATE items SET created_at = $2 WHERE id = $1", items[name], created)
		}
		add("king", "2026-01-10T00:00:00Z", "King of the hill", "Apples, don't you see?", "go", "two words")
		add("hill", "2026-01-10T12:00:00.0005Z", "The hill", "A king with his hill and a wi-fi router on it.", "go")
		add("wifi", "2026-01-11T00:00:00Z", "Wi-Fi", "Routers at example.com/docs, version 1.2.3, see a/b or snake_case and std:vector.", `say "hi"`)
		add("or", "2026-02-01T00:00:00Z", "Apple", "pears of king's garden")
		add("case", "2025-12-31T23:59:59.999Z", "Replicating", "Replication café\u0301s")
		var all []uuid.UUID
		for _, id := range items {
			all = append(all, id)
		}
		w.publish(t, all...)

		var wrong []string
		for text, want := range map[string][]string{
			// Words and phrases are stemmed, in any case, anywhere in the item.
			"APPLE":                    {"king", "or"},
			"replicate":                {"case"},
			"king apple":               {"king", "or"},
			`"apple"`:                  {"king", "or"},
			"king -apple":              {"hill"},
			`hill -"king of the hill"`: {},
			"-king":                    {"wifi", "case"},
			"-king -replicate":         {"wifi"},
			// A phrase does not go from the title into the content.
			`"hill apple"`: {},
			`"hill king"`:  {},
			`"apple pear"`: {},
			// Stop words are not looked for; in a phrase any word may be in their place.
			"the hill":                      {"king", "hill"},
			"the of":                        {"king", "hill", "wifi", "or", "case"},
			"-the":                          {"king", "hill", "wifi", "or", "case"},
			`"to be or not"`:                {"king", "hill", "wifi", "or", "case"},
			`"king of the hill"`:            {"king", "hill"},
			`"the king of the hill"`:        {"king", "hill"},
			`"king with his hill"`:          {"king", "hill"},
			`"king hill"`:                   {},
			`"king of hill"`:                {},
			`"the king's garden"`:           {"or"},
			`-"of the king's garden" apple`: {"king"},
			`"a king with"`:                 {"king", "hill", "or"},
			"don't apple":                   {"king", "or"},
			// There is no operator: or, and, not are words.
			"apple or replicate": {},
			"apple OR king":      {"king", "or"},
			"apple | king":       {"king", "or"},
			"apple AND NOT king": {"king", "or"},
			"king*":              {"king", "hill", "or"},
			"(apple king)":       {"king", "or"},
			"title:king":         {},
			"foo:bar":            {},
			// What punctuation joins is looked for as a phrase.
			"wi-fi":       {"hill", "wifi"},
			"-wi-fi hill": {"king"},
			"fi-wi":       {},
			"king's":      {"king", "hill", "or"},
			"1.2.3":       {"wifi"},
			"a/b":         {"wifi"},
			"snake_case":  {"wifi"},
			"std:vector":  {"wifi"},
			`"see a/b"`:   {"wifi"},
			// Filters.
			"tag:go":                             {"king", "hill"},
			"tag:Go":                             {},
			`tag:"two words"`:                    {"king"},
			`tag:"two words" tag:go`:             {"king"},
			`tag:"two words" tag:other`:          {},
			`tag:"say \"hi\""`:                   {"wifi"},
			"-tag:go":                            {"wifi", "or", "case"},
			`-tag:go -tag:"say \"hi\""`:          {"or", "case"},
			"tag:go -tag:go":                     {},
			`hill tag:go -tag:"two words"`:       {"hill"},
			"after:2026-01-11":                   {"wifi", "or"},
			"before:2026-01-11":                  {"king", "hill", "case"},
			"before:2026-01-01":                  {"case"},
			"after:2026-01-10 before:2026-01-11": {"king", "hill"},
			"after:2026-01-10T12:00:00.001Z":     {"wifi", "or"},
			"after:2026-01-10T12:00:00.0004Z":    {"hill", "wifi", "or"},
			"before:2026-01-10T12:00:00.0009Z":   {"king", "case"},
			"before:2026-01-10T12:00:00.001Z":    {"king", "hill", "case"},
			"after:2026-01-10T13:00:00+01:00":    {"hill", "wifi", "or"},
			"after:2026-01-11 before:2026-01-10": {},
			"after:9999-12-31 hill":              {},
			"before:0001-01-02":                  {},
			"king after:2026-02-01":              {"or"},
		} {
			page, err := w.searcher.Search(t.Context(), search.Query{Match: parse(t, text), CollectionIDs: []uuid.UUID{c}})
			require.NoError(t, err, text)
			got := []string{}
			for name, id := range items {
				for _, hit := range page.Hits {
					if hit.ItemID == id {
						got = append(got, name)
					}
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(want, got) || page.Total != int64(len(want)) {
				wrong = append(wrong, fmt.Sprintf("%s finds %v (total %d), not %v", text, got, page.Total, want))
			}
		}
		require.Empty(t, wrong)
	})

	t.Run("authors", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		c := w.Collection(t)
		ada := w.User
		byAda := w.Item(t, c, "same", "words")
		eve := uuid.Must(uuid.NewV7())
		w.Exec(t, "INSERT INTO users (id, email, password_hash) VALUES ($1, 'eve@example.com', 'x')", eve)
		byEve := w.Item(t, c, "same", "words")
		w.Exec(t, "UPDATE items SET created_by = $2 WHERE id = $1", byEve, eve)
		w.publish(t, byAda, byEve)
		for _, text := range []string{"same", "", "-other"} {
			for _, tt := range []struct {
				authors, not, want []uuid.UUID
			}{
				{nil, nil, []uuid.UUID{byAda, byEve}},
				{[]uuid.UUID{ada}, nil, []uuid.UUID{byAda}},
				{[]uuid.UUID{ada, eve}, nil, []uuid.UUID{byAda, byEve}},
				{[]uuid.UUID{uuid.New()}, nil, nil},
				{[]uuid.UUID{}, nil, nil},
				{nil, []uuid.UUID{ada}, []uuid.UUID{byEve}},
				{nil, []uuid.UUID{ada, eve}, nil},
				{[]uuid.UUID{ada}, []uuid.UUID{ada}, nil},
			} {
				page, err := w.searcher.Search(t.Context(), search.Query{
					Match: parse(t, text), CollectionIDs: []uuid.UUID{c}, Authors: tt.authors, NotAuthors: tt.not,
				})
				require.NoError(t, err)
				require.ElementsMatch(t, tt.want, ids(page))
				require.EqualValues(t, len(tt.want), page.Total)
			}
		}
	})
}
