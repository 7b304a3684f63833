package query_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/search/query"
)

func TestCorrectChangesWordsOnly(t *testing.T) {
	t.Parallel()
	words := map[string]string{"kafak": "kafka", "Grup": "group", "tga": "tag", "café": "cafés"}
	for text, want := range map[string]string{
		"kafak":                          "kafka",
		"kafak Grup":                     "kafka group",
		`  kafak "consumer Grup" -kafak`: `  kafka "consumer group" -kafak`,
		`tag:kafak author:"Grup" kafak`:  `tag:kafak author:"Grup" kafka`,
		"wi-kafak/café":                  "wi-kafka/cafés",
		"kafaks":                         "kafaks",
		`"say \"kafak\" \\ kafak`:        `"say \"kafka\" \\ kafka`,
		"größe kafak 🚀":                  "größe kafka 🚀",
		"":                               "",
	} {
		got, ok := query.Correct(text, words)
		require.True(t, ok, text)
		require.Equal(t, want, got)
		parsed, err := query.Parse(text)
		require.NoError(t, err)
		corrected, err := query.Parse(got)
		require.NoError(t, err)
		require.Equal(t, corrected, parsed.Correct(words))
	}
	for _, text := range []string{"tga:go", "before:yesterday"} {
		_, ok := query.Correct(text, words)
		require.False(t, ok, text)
	}
}
