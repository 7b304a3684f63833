package portable_test

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/portable"
	"github.com/atlas-platform/atlas/internal/portable/portabletest"
)

// same checks that what was read survives being written and read again, in both forms.
func same(t *testing.T, records []portable.Record) {
	t.Helper()
	for _, record := range records {
		if len(record.Wrong) > 0 || record.Skipped {
			require.Equal(t, portable.Item{}, record.Item)
			continue
		}
		want := record.Item
		lines := fromLines(t, string(ndjson(t, want)))
		require.Len(t, lines, 1)
		require.Empty(t, lines[0].Wrong)
		require.Equal(t, want, lines[0].Item)
		if len(want.Content) > portable.MaxContent {
			continue // NDJSON's content is limited where it is imported
		}
		files := fromZip(t, markdown(t, want))
		require.Len(t, files, 1)
		if len(files[0].Wrong) > 0 && strings.Contains(files[0].Wrong[0].Message, "too deeply") {
			continue
		}
		require.Empty(t, files[0].Wrong, "%q", want)
		require.Equal(t, want, files[0].Item)
	}
}

func FuzzNDJSON(f *testing.F) {
	f.Add([]byte("{\"title\":\"a\",\"content\":\"b\",\"tags\":[\"c\"],\"metadata\":{\"d\":[1,2.50,null]},\"source_url\":null}\n\n{\"title\":\"x\"}"))
	f.Add([]byte("\xef\xbb\xbf{\"title\":\"a\",\"created_at\":\"2026-01-22T10:00:00.123456789+01:00\"}\r\n[]\n{"))
	f.Fuzz(func(t *testing.T, content []byte) {
		records, err := all(portable.NewNDJSONReader(bytes.NewReader(content)))
		require.NoError(t, err)
		same(t, records)
	})
}

func FuzzMarkdown(f *testing.F) {
	f.Add("a.md", []byte("---\ntitle: a\ntags: [b, 'c']\nmetadata:\n  d: {e: 1.0}\nother: |\n  text\ncreated_at: 2026-01-01\n---\n# Heading\n"))
	f.Add("b.markdown", []byte("# Heading\n---\n"))
	f.Add("c.md", []byte("---\na: &a [1]\nb: *a\n? [x]\n: y\n<<: {}\n# comment\n---\n"))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		if len(name) > 1000 || strings.HasSuffix(name, "/") {
			return
		}
		same(t, fromZip(t, zipped(t, name, string(content))))
	})
}

func FuzzMarkdownArchive(f *testing.F) {
	f.Add(zipped(f, "a.md", "# a", "b/", "", "c.txt", ""))
	f.Add(markdown(f, portable.Item{ID: uuid.MustParse("01975e5a-0000-7000-8000-000000000000"), Title: "Note G", Content: strings.Repeat("text ", 100)}))
	f.Fuzz(func(t *testing.T, content []byte) {
		r, err := portable.NewMarkdownReader(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			return
		}
		records, _ := all(r)
		same(t, records)
	})
}

func FuzzRoundTrip(f *testing.F) {
	for _, text := range portabletest.Nasty {
		f.Add(text, text, text, text, text, int64(0))
	}
	f.Fuzz(func(t *testing.T, title, content, tag, key, value string, micros int64) {
		for _, s := range []string{title, content, tag, key, value} {
			if !utf8.ValidString(s) || len(s) > 10_000 {
				return
			}
		}
		at := time.UnixMicro(micros % 2e17).UTC()
		if at.Year() < 1 || at.Year() > 9999 {
			return
		}
		want := portable.Item{
			ID: uuid.MustParse("01975e5a-0000-7000-8000-000000000000"), Title: title, Content: content, Tags: []string{tag}, SourceURL: &value, CreatedAt: at, UpdatedAt: at,
			Metadata: map[string]any{key: value, "list": []any{value, map[string]any{key: value}}},
		}
		same(t, []portable.Record{{Item: want}})
	})
}
