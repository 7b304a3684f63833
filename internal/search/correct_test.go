package search_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/search"
)

func TestElasticsearchCorrects(t *testing.T) {
	t.Parallel()
	w := elasticsearchWorld(t)
	c, d, foreign := w.Collection(t), w.Collection(t), w.Collection(t)
	tagged := w.Item(t, c, "Kafka brokers", "The consumers' group is Größer than that.", "go")
	w.publish(
		t, tagged, w.Item(t, d, "Cooking", "Boil the water, then the beans. <b>Café</b>"), w.Item(t, foreign, "Zookeeper", "secrets of kafkaesque"),
		w.Item(t, c, strings.Repeat("x", 300), strings.Repeat("word ", 20_000)+"faraway"),
	)
	ask := func(text string, in ...uuid.UUID) map[string]string {
		page, err := w.searcher.Search(t.Context(), search.Query{Match: parse(t, text), CollectionIDs: in, Correct: true})
		require.NoError(t, err, text)
		if len(page.Corrections) > 0 {
			require.Zero(t, page.Total)
			corrected, err := w.searcher.Search(t.Context(), search.Query{Match: parse(t, text).Correct(page.Corrections), CollectionIDs: in})
			require.NoError(t, err)
			require.Positive(t, corrected.Total, text)
		}
		return page.Corrections
	}
	type words = map[string]string
	for text, want := range map[string]words{
		"kafka":                    nil,
		"kafak":                    {"kafak": "kafka"},
		"KAFAK":                    {"KAFAK": "kafka"},
		"kafak brokr":              {"kafak": "kafka", "brokr": "brokers"},
		"kafka brockers":           {"brockers": "brokers"},
		`"kafak brokers"`:          {"kafak": "kafka"},
		`"brokers kafak"`:          nil, // not in this order
		"kafak water":              nil, // not together
		"kafak tag:go":             {"kafak": "kafka"},
		"kafak tag:rust":           nil,
		"kafak -brokers":           nil,
		"kafak -zookeeper":         {"kafak": "kafka"},
		"-kafak tag:nothing":       nil,
		"kafak before:2020-01-01":  nil,
		"grosser consummers":       {"consummers": "consumers"},
		"cofe":                     {"cofe": "café"},
		"zokeeper":                 nil, // only elsewhere
		"secretz":                  nil,
		"ka":                       nil,
		"xq":                       nil,
		"qwertzuiop":               nil,
		"kafak brokr consmer grop": nil, // too many
		"":                         nil,
	} {
		got := ask(text, c, d)
		require.Equal(t, want, got, text)
	}
	require.Equal(t, words{"zokeeper": "zookeeper"}, ask("zokeeper", foreign))
	require.Nil(t, ask("kafak"))
	page, err := w.searcher.Search(t.Context(), search.Query{Match: parse(t, "kafak"), CollectionIDs: []uuid.UUID{c}})
	require.NoError(t, err)
	require.Nil(t, page.Corrections, "unasked")
}

// TestCorrectionsAreOfOnesOwn compares answers before and after others write every word that could matter.
func TestCorrectionsAreOfOnesOwn(t *testing.T) {
	t.Parallel()
	w := elasticsearchWorld(t)
	mine, foreign := w.Collection(t), w.Collection(t)
	w.publish(t, w.Item(t, mine, "consumer", "replicated brokers"), w.Item(t, mine, "consumed", ""), w.Item(t, mine, "consumer", ""))
	seen := func() []string {
		var out []string
		for _, text := range []string{"consumar", "consumr", "brokrs", "replicatid", "consumar brokrs", "zookeper"} {
			page, err := w.searcher.Search(t.Context(), search.Query{
				Match: parse(t, text), CollectionIDs: []uuid.UUID{mine}, Correct: true, TagFacet: true, CollectionFacet: true,
			})
			require.NoError(t, err)
			out = append(out, fmt.Sprintf("%s: %+v", text, page))
		}
		return out
	}
	before := seen()
	require.Contains(t, before[0], "consumar:consumer")
	require.Contains(t, before[4], "brokrs:brokers")
	require.NotContains(t, before[5], "keeper")
	// The typed words themselves, nearer ones, and more similar ones than any suggester considers.
	words := []string{"consumar consumr brokrs replicatid zookeper", "consumars consumas brokr brokers replicate zookeeper"}
	for a := 'a'; a <= 'z'; a++ {
		for b := 'a'; b <= 'z'; b++ {
			words = append(words, fmt.Sprintf("consum%c%c c%cnsum%cr brok%c%c", a, b, a, b, a, b))
		}
	}
	var theirs []uuid.UUID
	for i := 0; i < len(words); i += 50 {
		theirs = append(theirs, w.Item(t, foreign, words[i], strings.Join(words[i:min(i+50, len(words))], " ")))
	}
	w.publish(t, theirs...)
	require.Equal(t, before, seen())
}

func TestPostgresCorrectsNothing(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	w := indexingtest.NewSeed(t, pool)
	c := w.Collection(t)
	w.Item(t, c, "kafka", "")
	page, err := search.NewPostgres(pool).Search(t.Context(), search.Query{Match: parse(t, "kafak"), CollectionIDs: []uuid.UUID{c}, Correct: true})
	require.NoError(t, err)
	require.Nil(t, page.Corrections)
}
