package jsontext_test

import (
	"encoding/json"
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

func TestEscapePointer(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a~1b~0c~01", jsontext.EscapePointer("a/b~c~1"))
}
