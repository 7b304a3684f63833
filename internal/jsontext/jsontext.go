// Package jsontext reads JSON from anybody: a text is one value of a bounded size, so that a few megabytes can't take gigabytes to decode.
package jsontext

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Decode reads the one value of a text, which may have so many values within it. Numbers are json.Number. The error says what is wrong with the
// text as a predicate: "is not UTF-8".
func Decode(content []byte, maxValues int) (value any, err error) {
	switch {
	case !utf8.Valid(content):
		return nil, errors.New("is not UTF-8")
	case crowded(content, maxValues):
		return nil, fmt.Errorf("has more than %d values", maxValues)
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("has more than one JSON value")
	}
	return value, nil
}

// crowded tells, without decoding it, whether a JSON text has more than limit values: each but the first follows a comma or a bracket.
func crowded(content []byte, limit int) bool {
	values, inString := 1, false
	for i := 0; i < len(content); i++ {
		switch c := content[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case !inString && (c == ',' || c == '[' || c == '{'):
			if values++; values > limit {
				return true
			}
		}
	}
	return false
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// EscapePointer makes a name a part of a JSON pointer (RFC 6901).
func EscapePointer(name string) string { return pointerEscapes.Replace(name) }
