package jsontext_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/jsontext"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	value, err := jsontext.Decode([]byte(` {"a": [1.50, "x, [y] \" {", null]} `), 6)
	require.NoError(t, err)
	require.Equal(t, map[string]any{"a": []any{json.Number("1.50"), `x, [y] " {`, nil}}, value)

	for _, tt := range []struct{ name, text, message string }{
		{"not UTF-8", "\"\xff\"", "is not UTF-8"},
		{"nothing", "", "is not JSON: EOF"},
		{"a part", `{"a":`, "is not JSON: unexpected EOF"},
		{"two values", `{} {}`, "has more than one JSON value"},
		{"a value and what is none", `{} x`, "has more than one JSON value"},
		{"too many values", `[1,2,3,4,5,6]`, "has more than 6 values"},
		{"too deep", `[[[[[[[[`, "has more than 6 values"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := jsontext.Decode([]byte(tt.text), 6)
			require.EqualError(t, err, tt.message)
		})
	}
}

func TestSurrogates(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`"\ud83d\ude00 \uD83D\uDE00"`: "😀 😀", `"\\ud800"`: `\ud800`, `"\\\\ud800\ufffd\u00e9"`: `\\ud800` + "\ufffdé", `"\"\\"`: `"\`,
	} {
		value, err := jsontext.Decode([]byte(text), 1)
		require.NoError(t, err, text)
		require.Equal(t, want, value)
	}
	for text, lone := range map[string]string{
		`"\ud800"`: `\ud800`, `"a\uDFFFb"`: `\uDFFF`, `"\ude00\ud83d"`: `\ude00`, `"\ud83d\ud83d\ude00"`: `\ud83d`, `"\ud83dx\ude00"`: `\ud83d`,
		`{"\ud83d\n":1}`: `\ud83d`, `"\\\ud800"`: `\ud800`, `"\ud83d\ude00\ude00"`: `\ude00`, `"\ud800\u`: `\ud800`,
	} {
		_, err := jsontext.Decode([]byte(text), 2)
		require.EqualError(t, err, "has half a surrogate pair, which is no character: "+lone, text)
	}
	for _, text := range []string{`"\`, `"\u`, `"\ud80`, `"\uzzzz"`} {
		_, err := jsontext.Decode([]byte(text), 1)
		require.ErrorContains(t, err, "is not JSON", text)
	}
}

// FuzzSurrogates holds the scan to what the decoder makes of a text: it keeps every other character as it is.
func FuzzSurrogates(f *testing.F) {
	for _, text := range []string{`\ud800`, `\ud83d\ude00`, `\\ud800`, `\n\ud83d\\`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if value, err := jsontext.Decode([]byte(`"`+text+`"`), 10); err == nil && !strings.Contains(text, "\uFFFD") &&
			!strings.Contains(strings.ToLower(text), `\ufffd`) {
			require.NotContains(t, value, "\uFFFD")
		}
	})
}

func TestEscapePointer(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a~1b~0c~01", jsontext.EscapePointer("a/b~c~1"))
}
