package portable

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// fence starts and ends front matter.
const fence = "---"

// longKey is the length from which a key needs YAML's explicit form: parsers look for a colon within 1,024 characters only.
const longKey = 500

// plainScalar is text that no YAML parser of any version takes for anything else, but for the words below.
var plainScalar = regexp.MustCompile(`^\p{L}[\p{L}\p{M}\p{N} _/().,'-]{0,199}$`)

var notPlain = map[string]bool{
	"y": true, "n": true, "yes": true, "no": true, "on": true, "off": true, "true": true, "false": true, "null": true, "nil": true, "inf": true, "nan": true,
}

// encodeMarkdown is the file of an item: front matter, then the content byte for byte.
func encodeMarkdown(item Item) ([]byte, error) {
	b := make([]byte, 0, 512+len(item.Content))
	b = append(b, fence+"\n"...)
	if item.ID != uuid.Nil {
		b = append(b, "id: "+item.ID.String()+"\n"...)
	}
	b = append(appendScalar(append(b, "title: "...), item.Title), '\n')
	if item.SourceURL != nil {
		b = append(appendQuoted(append(b, "source_url: "...), *item.SourceURL), '\n')
	}
	if len(item.Tags) > 0 {
		b = append(b, "tags:\n"...)
		for _, tag := range item.Tags {
			b = append(appendScalar(append(b, "- "...), tag), '\n')
		}
	}
	if len(item.Metadata) > 0 {
		b = append(b, "metadata:\n"...)
		for _, key := range slices.Sorted(maps.Keys(item.Metadata)) {
			var err error
			if b, err = appendEntry(b, key, item.Metadata[key]); err != nil {
				return nil, err
			}
		}
	}
	for _, t := range []struct {
		name string
		at   time.Time
	}{{"created_at", item.CreatedAt}, {"updated_at", item.UpdatedAt}} {
		if !t.at.IsZero() {
			b = append(t.at.UTC().AppendFormat(append(b, t.name+": "...), time.RFC3339Nano), '\n')
		}
	}
	b = append(b, fence+"\n"...)
	return append(b, item.Content...), nil
}

// appendEntry writes an entry of the metadata: a line, with everything below its value in YAML's flow style, which is nearly JSON.
func appendEntry(b []byte, key string, value any) ([]byte, error) {
	start := len(b) + 2
	b = appendScalar(append(b, "  "...), key)
	if len(b)-start > longKey {
		b = append(appendQuoted(append(b[:start], "? "...), key), "\n  "...)
	}
	b = append(b, ": "...)
	var err error
	if text, ok := value.(string); ok {
		b = appendScalar(b, text)
	} else if b, err = appendFlow(b, value); err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

func appendFlow(b []byte, value any) (_ []byte, err error) {
	switch value := value.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, value), nil
	case json.Number:
		return append(b, value...), nil
	case string:
		return appendQuoted(b, value), nil
	case []any:
		b = append(b, '[')
		for i, element := range value {
			if i > 0 {
				b = append(b, ", "...)
			}
			if b, err = appendFlow(b, element); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case map[string]any:
		b = append(b, '{')
		for i, key := range slices.Sorted(maps.Keys(value)) {
			if i > 0 {
				b = append(b, ", "...)
			}
			if len(key) > longKey/10 { // a character may take ten to write
				b = append(b, "? "...)
			}
			b = append(appendQuoted(b, key), ": "...)
			if b, err = appendFlow(b, value[key]); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	default:
		return nil, fmt.Errorf("metadata holds a %T", value)
	}
}

// appendScalar writes text as it is where that is safe, else in quotes.
func appendScalar(b []byte, text string) []byte {
	if plainScalar.MatchString(text) && !strings.HasSuffix(text, " ") && !notPlain[strings.ToLower(text)] {
		return append(b, text...)
	}
	return appendQuoted(b, text)
}

// appendQuoted writes a double-quoted scalar on one line. What can't be seen, or could end the line, is escaped.
func appendQuoted(b []byte, text string) []byte {
	b = append(b, '"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case unicode.IsGraphic(r):
			b = utf8.AppendRune(b, r)
		case r <= 0xff:
			b = fmt.Appendf(b, `\x%02x`, r)
		case r <= 0xffff:
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = fmt.Appendf(b, `\U%08x`, r)
		}
	}
	return append(b, '"')
}
