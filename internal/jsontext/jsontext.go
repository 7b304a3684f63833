// Package jsontext reads JSON from anybody: a text is one value of a bounded size, so that a few megabytes can't take gigabytes to decode.
package jsontext

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
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
	if lone := loneSurrogate(content); lone != nil {
		return nil, fmt.Errorf("has half a surrogate pair, which is no character: %s", lone)
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

// loneSurrogate returns an escape of half a UTF-16 pair whose other half is not there, or nil. The decoder would make it U+FFFD in silence.
func loneSurrogate(content []byte) []byte {
	for rest := content; ; {
		i := bytes.IndexByte(rest, '\\')
		if i < 0 {
			return nil
		}
		rest = rest[i:]
		first, ok := escapedUnit(rest)
		switch {
		case !ok: // any other escape: two bytes, the second of which may be a backslash
			rest = rest[min(2, len(rest)):]
			continue
		case !utf16.IsSurrogate(first):
			rest = rest[escapeLength:]
			continue
		}
		second, _ := escapedUnit(rest[escapeLength:])
		if utf16.DecodeRune(first, second) == utf8.RuneError {
			return rest[:escapeLength]
		}
		rest = rest[2*escapeLength:]
	}
}

// escapeLength is that of \u12ab.
const escapeLength = 6

// escapedUnit reads the UTF-16 unit of an escape that a text begins with.
func escapedUnit(text []byte) (unit rune, ok bool) {
	if len(text) < escapeLength || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	var b [2]byte
	if _, err := hex.Decode(b[:], text[2:escapeLength]); err != nil {
		return 0, false
	}
	return rune(binary.BigEndian.Uint16(b[:])), true
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// EscapePointer makes a name a part of a JSON pointer (RFC 6901).
func EscapePointer(name string) string { return pointerEscapes.Replace(name) }
