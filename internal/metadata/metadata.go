// Package metadata holds the rules for the JSON object that users attach to an item: its limits, and how a merge patch (RFC 7396) changes it.
package metadata

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/atlas-platform/atlas/internal/jsontext"
)

// The limits of an object.
const (
	MaxBytes  = 16 << 10 // compact, and with numbers written out: 1e300 has 301 digits
	MaxDepth  = 10
	MaxFields = 100 // at the top level
)

// Error is what is wrong, and where: a JSON pointer into the object.
type Error struct{ Pointer, Message string }

func (e *Error) Error() string { return strings.TrimSpace(e.Pointer + " " + e.Message) }

// Object is metadata within the limits. Its values are strings, booleans, nil, json.Number in plain digits, []any and map[string]any.
type Object map[string]any

// Parse reads an object and checks it.
func Parse(raw []byte) (Object, error) {
	value, err := decode(raw)
	if err != nil {
		return nil, err
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, &Error{Message: "must be an object"}
	}
	return object, check(object)
}

// Apply returns the object that a merge patch makes of this one, checked. A patch that is null removes everything.
func (o Object) Apply(patch []byte) (Object, error) {
	value, err := decode(patch)
	if err != nil {
		return nil, err
	}
	if value == nil {
		return Object{}, nil
	}
	changes, ok := value.(map[string]any)
	if !ok {
		return nil, &Error{Message: "must be an object"}
	}
	merged := Object(mergeObject(o, changes))
	return merged, check(merged)
}

// Encode writes the object without spaces, names in order.
func (o Object) Encode() json.RawMessage {
	if o == nil {
		return json.RawMessage("{}")
	}
	content, err := encode(map[string]any(o))
	if err != nil {
		panic(err) // it was decoded from JSON
	}
	return content
}

// Merge applies a merge patch to a JSON value, at every level (RFC 7396, section 2). Neither argument is changed; the result shares parts of both.
func Merge(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, _ := target.(map[string]any)
	return mergeObject(object, changes)
}

func mergeObject(object, changes map[string]any) map[string]any {
	out := maps.Clone(object)
	if out == nil {
		out = make(map[string]any, len(changes))
	}
	for name, change := range changes {
		if change == nil {
			delete(out, name)
		} else {
			out[name] = Merge(out[name], change)
		}
	}
	return out
}

func decode(raw []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, &Error{Message: "is not JSON"}
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, &Error{Message: "is not JSON"}
	}
	return plain(value, "")
}

// plain checks the strings and writes the numbers out, as PostgreSQL would: what is stored is then what comes back.
func plain(value any, pointer string) (any, error) {
	switch value := value.(type) {
	case string:
		if strings.ContainsRune(value, 0) {
			return nil, &Error{Pointer: pointer, Message: "has a NUL character, which can't be stored"}
		}
		return value, nil
	case json.Number:
		digits, ok := plainNumber(string(value))
		if !ok {
			return nil, &Error{Pointer: pointer, Message: "is a number that does not fit a double"}
		}
		return json.Number(digits), nil
	case []any:
		for i := range value {
			var err error
			if value[i], err = plain(value[i], fmt.Sprintf("%s/%d", pointer, i)); err != nil {
				return nil, err
			}
		}
		return value, nil
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(value)) {
			at := pointer + "/" + jsontext.EscapePointer(name)
			if strings.ContainsRune(name, 0) {
				return nil, &Error{Pointer: at, Message: "has a NUL character, which can't be stored"}
			}
			var err error
			if value[name], err = plain(value[name], at); err != nil {
				return nil, err
			}
		}
		return value, nil
	default:
		return value, nil
	}
}

func check(object map[string]any) error {
	if len(object) > MaxFields {
		return &Error{Message: fmt.Sprintf("has %d fields; at most %d are possible", len(object), MaxFields)}
	}
	if depth(object) > MaxDepth {
		return &Error{Message: fmt.Sprintf("is more than %d levels deep", MaxDepth)}
	}
	content, err := encode(object)
	if err != nil {
		return fmt.Errorf("encode metadata: %w", err)
	}
	if len(content) > MaxBytes {
		return &Error{Message: fmt.Sprintf("has %d bytes, numbers written out; at most %d are possible", len(content), MaxBytes)}
	}
	return nil
}

func depth(value any) int {
	deepest := 0
	switch value := value.(type) {
	case map[string]any:
		for _, element := range value {
			deepest = max(deepest, depth(element))
		}
	case []any:
		for _, element := range value {
			deepest = max(deepest, depth(element))
		}
	default:
		return 0
	}
	return deepest + 1
}

func encode(value any) (json.RawMessage, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(out.Bytes()), nil
}
