package elastic_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/elastic"
)

// TestLanguages makes an index of each language, and sees two forms of a word become one.
func TestLanguages(t *testing.T) {
	t.Parallel()
	forms := map[string][2]string{
		"none": {"Müller", "muller"}, "arabic": {"الكتاب", "كتاب"}, "danish": {"hundene", "hunden"}, "dutch": {"katten", "kat"}, "english": {"horses", "horse"},
		"finnish": {"talossa", "talo"}, "french": {"l'été", "etes"}, "german": {"Häuser", "haus"}, "hungarian": {"házak", "ház"}, "italian": {"dell'albero", "alberi"},
		"norwegian": {"hundene", "hunden"}, "portuguese": {"livros", "livro"}, "romanian": {"cărților", "cărți"}, "russian": {"книги", "книга"},
		"spanish": {"canciones", "cancion"}, "swedish": {"hundarna", "hundar"}, "turkish": {"kitaplar", "kitap"},
	}
	es := indexClient(t)
	require.Len(t, forms, len(elastic.Languages()))
	for _, language := range elastic.Languages() {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			alias := uniqueAlias(t, es)
			require.NoError(t, elastic.EnsureIndex(t.Context(), es, alias, elastic.Params{Language: language}))
			state, err := elastic.ObserveIndex(t.Context(), es, alias)
			require.NoError(t, err)
			changes, err := elastic.PlanIndex(alias, definition(t, elastic.Params{Language: language}), state, time.Now())
			require.NoError(t, err)
			require.Empty(t, changes, "Elasticsearch shows the settings as they were given")
			var tokens []string
			for _, word := range forms[language] {
				body := strings.NewReader(`{"analyzer":"atlas_text","text":"` + word + `"}`)
				res, err := es.Indices.Analyze(es.Indices.Analyze.WithIndex(alias), es.Indices.Analyze.WithBody(body))
				require.NoError(t, err)
				var answer struct {
					Tokens []struct{ Token string }
				}
				require.NoError(t, errors.Join(json.NewDecoder(res.Body).Decode(&answer), res.Body.Close()))
				require.Len(t, answer.Tokens, 1)
				tokens = append(tokens, answer.Tokens[0].Token)
			}
			require.Equal(t, tokens[0], tokens[1])
		})
	}
	_, err := elastic.Definition(elastic.Params{Language: "klingon"})
	require.ErrorContains(t, err, "german")
	require.NotEqual(t, definition(t, elastic.Params{}).Hash, definition(t, elastic.Params{Language: "none"}).Hash)
	require.Equal(t, definition(t, elastic.Params{}), definition(t, elastic.Params{Language: elastic.English}))
}
