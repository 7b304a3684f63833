package portable_test

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/portable"
	"github.com/atlas-platform/atlas/internal/portable/portabletest"
	"github.com/atlas-platform/atlas/internal/zipstream"
)

func ndjson(t testing.TB, items ...portable.Item) []byte {
	t.Helper()
	var out bytes.Buffer
	w := portable.NewNDJSONWriter(&out)
	for _, item := range items {
		require.NoError(t, w.Write(item))
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

func markdown(t testing.TB, items ...portable.Item) []byte {
	t.Helper()
	var out bytes.Buffer
	w := portable.NewMarkdownWriter(&out)
	defer w.Discard()
	for _, item := range items {
		require.NoError(t, w.Write(item))
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

// zipped makes an archive as another tool would.
func zipped(t testing.TB, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for i := 0; i < len(files); i += 2 {
		file, err := w.Create(files[i])
		require.NoError(t, err)
		_, err = io.WriteString(file, files[i+1])
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

func all(r portable.Reader) (records []portable.Record, err error) {
	for {
		record, err := r.Next()
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return records, err
		}
		records = append(records, record)
	}
}

func fromLines(t testing.TB, content string) []portable.Record {
	t.Helper()
	records, err := all(portable.NewNDJSONReader(strings.NewReader(content)))
	require.NoError(t, err)
	return records
}

func fromZip(t testing.TB, content []byte) []portable.Record {
	t.Helper()
	r, err := portable.NewMarkdownReader(bytes.NewReader(content), int64(len(content)))
	require.NoError(t, err)
	records, err := all(r)
	require.NoError(t, err)
	return records
}

// fromFile reads one Markdown file.
func fromFile(t testing.TB, name, content string) portable.Record {
	t.Helper()
	records := fromZip(t, zipped(t, name, content))
	require.Len(t, records, 1)
	return records[0]
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	items := make([]portable.Item, 5000)
	for i := range items {
		items[i] = portabletest.Item(r)
	}
	for i, record := range fromLines(t, string(ndjson(t, items...))) {
		require.Empty(t, record.Wrong)
		require.Equal(t, items[i], record.Item)
		require.Equal(t, fmt.Sprintf("line %d", i+1), record.Source)
	}
	records := fromZip(t, markdown(t, items...))
	require.Len(t, records, len(items))
	for i, record := range records {
		require.Empty(t, record.Wrong, "%q", items[i])
		require.Equal(t, items[i], record.Item)
	}
}

func TestNastyTexts(t *testing.T) {
	t.Parallel()
	for _, text := range portabletest.Nasty {
		want := portable.Item{
			ID: uuid.Must(uuid.NewV7()), Title: text, Content: text, Tags: []string{text}, SourceURL: &text,
			Metadata: map[string]any{text: text, "in": map[string]any{text: []any{text}}, "title": text},
		}
		for _, record := range append(fromLines(t, string(ndjson(t, want))), fromZip(t, markdown(t, want))...) {
			require.Empty(t, record.Wrong, "%q", text)
			require.Equal(t, want, record.Item, "%q", text)
		}
	}
}

func TestNDJSONReader(t *testing.T) {
	t.Parallel()
	pad := strings.Repeat("x", portable.MaxLine)
	for _, c := range []struct{ line, pointer, message string }{
		{`{"title":1}`, "/title", "must be a string"},
		{`{"title":null}`, "/title", "must be a string"},
		{`{}`, "/title", "is required"},
		{`{"title":"a","content":null}`, "/content", "must be a string"},
		{`{"title":"a","source_url":5}`, "/source_url", "must be a string"},
		{`{"title":"a","tags":"x"}`, "/tags", "must be a list of strings"},
		{`{"title":"a","tags":["x",1]}`, "/tags/1", "must be a string"},
		{`{"title":"a","metadata":[]}`, "/metadata", "must be an object"},
		{`{"title":"a","metadata":null}`, "/metadata", "must be an object"},
		{`{"title":"a","id":"x"}`, "/id", "must be a UUID"},
		{`{"title":"a","id":"{01975e5a-0000-7000-8000-000000000000}"}`, "/id", "must be a UUID"},
		{`{"title":"a","created_at":"yesterday"}`, "/created_at", "must be a time such as 2026-01-22T10:00:00Z (RFC 3339)"},
		{`{"title":"a","created_at":"2026-02-30T00:00:00Z"}`, "/created_at", "must be a time such as 2026-01-22T10:00:00Z (RFC 3339)"},
		{`{"title":"a","updated_at":"0000-01-01T00:00:00Z"}`, "/updated_at", "must be in the years 1 to 9999"},
		{`{"title":"a","updated_at":null}`, "/updated_at", "must be a string"},
		{`{"title":"a","a/b~":1}`, "/a~1b~0", "is not a field of an item"},
		{`{"title":"a"} {}`, "", "has more than one JSON value"},
		{`[]`, "", "must be a JSON object"},
		{`{"title":`, "", "is not JSON: unexpected EOF"},
		{"{\"title\":\"\xff\"}", "", "is not UTF-8"},
		{`{"title":"\udc00"}`, "", `has half a surrogate pair, which is no character: \udc00`},
		{"{\"title\":\"\x00\"}", "", `is not JSON: invalid character '\x00' in string literal`},
		{strings.Repeat("[", 20_001), "", "has more than 20000 values"},
		{pad, "", "is longer than 9437184 bytes"},
	} {
		records := fromLines(t, c.line+"\n"+`{"title":"next"}`)
		require.Len(t, records, 2)
		require.Contains(t, records[0].Wrong, portable.FieldError{Pointer: c.pointer, Message: c.message}, "%.50s", c.line)
		require.Equal(t, portable.Item{}, records[0].Item)
		require.Equal(t, portable.Record{Source: "line 2", Item: portable.Item{Title: "next"}}, records[1])
	}

	records := fromLines(t, "\xef\xbb\xbf"+`{"title":"a","title":"b","metadata":{"n":1.0}}`+"\r\n\r\n  \n"+`{"title":"c"}`+"\r\n"+pad)
	require.Len(t, records, 3)
	require.Equal(t, "b", records[0].Item.Title)
	require.Equal(t, map[string]any{"n": json.Number("1.0")}, records[0].Item.Metadata)
	require.Equal(t, "line 4", records[1].Source)
	require.Equal(t, "c", records[1].Item.Title)
	require.Equal(t, "line 5", records[2].Source)
	require.NotEmpty(t, records[2].Wrong)
	require.Empty(t, fromLines(t, ""))
}

// TestABrokenBody must not take half a line for a line.
func TestABrokenBody(t *testing.T) {
	t.Parallel()
	in := io.MultiReader(strings.NewReader("{\"title\":\"a\"}\n{\"title\":\"b\"}"), iotest.ErrReader(io.ErrUnexpectedEOF))
	records, err := all(portable.NewNDJSONReader(in))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Len(t, records, 1)
}

func TestMarkdownOfOtherTools(t *testing.T) {
	t.Parallel()
	const all = "---\ntitle: 2026\nid: my-page\nauthor: Ada\ndate: 2026-01-01\ndraft: yes\nrating: 4.5\nempty:\nodd: 007\nhex: 0x10\n" +
		"tags: one, two,\nmetadata: {a: 1}\ncontent: x\ncreated_at: 2026-01-02\nsource_url: ~\n--- \nText"
	got := fromFile(t, "a.md", all)
	require.Empty(t, got.Wrong)
	require.Equal(t, portable.Item{
		Title: "2026", Content: "Text", Tags: []string{"one", "two"}, CreatedAt: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
		Metadata: map[string]any{
			"id": "my-page", "author": "Ada", "date": "2026-01-01", "draft": "yes", "rating": json.Number("4.5"), "empty": nil, "odd": "007", "hex": "0x10",
			"a": json.Number("1"), "content": "x",
		},
	}, got.Item)

	for _, c := range []struct{ name, content, title, left string }{
		{"a/Some File.MD", "no heading", "Some File", "no heading"},
		{"a.markdown", "text\n# The heading #\n", "The heading", "text\n# The heading #\n"},
		{"a.md", "```\n# code\n```\n# Heading", "Heading", "```\n# code\n```\n# Heading"},
		{"a.md", "\xef\xbb\xbf---\r\ntags: [x]\r\n---\r\n# Heading\r\n", "Heading", "# Heading\r\n"},
		{"a.md", "---\njust text\n---\nmore", "a", "---\njust text\n---\nmore"},
		{"a.md", "---\n---\nmore", "a", "---\n---\nmore"},
		{"a.md", "---\nno end", "a", "---\nno end"},
		{"a.md", "--- a", "a", "--- a"},
		{"a.md", "\xef\xbb\xbftext", "a", "text"},
		{`folder\a.md`, "", "a", ""},
	} {
		got := fromFile(t, c.name, c.content)
		require.Empty(t, got.Wrong, c.content)
		require.Equal(t, c.title, got.Item.Title, c.content)
		require.Equal(t, c.left, got.Item.Content)
	}
}

func TestMarkdownRefusals(t *testing.T) {
	t.Parallel()
	bomb := "---\na: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n---\n"
	for _, c := range []struct{ content, pointer, message string }{
		{bomb, "/b/0", "must not be an alias"},
		{"---\ntitle: a\ntitle: b\n---\n", "/title", "is there twice"},
		{"---\nx: {a: 1, a: 2}\n---\n", "/x/a", "is there twice"},
		{"---\nx: 1\nmetadata: {x: 2}\n---\n", "/x", "is in metadata too"},
		{"---\ntitle: [a]\n---\n", "/title", "must be a string"},
		{"---\ntags: {a: b}\n---\n", "/tags", "must be a list of strings"},
		{"---\ntags: [[a]]\n---\n", "/tags/0", "must be a string"},
		{"---\nmetadata: text\n---\n", "/metadata", "must be an object"},
		{"---\n[a]: b\nc: d\n---\n", "", "has a key that is not text"},
		{"---\ncreated_at: yesterday\n---\n", "/created_at", "must be a time such as 2026-01-22T10:00:00Z (RFC 3339)"},
		{"---\nx: " + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "\n---\n", "/x" + strings.Repeat("/0", 100), "is nested too deeply"},
		{"---\n" + strings.Repeat("# comment\n", 30_000) + "---\n", "", "has more than 262144 bytes of front matter"},
		{"---\ntitle: a\n---\n" + strings.Repeat("x", portable.MaxContent+1), "/content", "has 1048577 bytes of UTF-8; at most 1048576 are possible"},
		{strings.Repeat("x", portable.MaxContent+portable.MaxFrontMatter+1), "", "has more than 1310720 bytes"},
		{"\xff", "", "is not UTF-8"},
	} {
		got := fromFile(t, "a.md", c.content)
		require.Contains(t, got.Wrong, portable.FieldError{Pointer: c.pointer, Message: c.message}, "%.60s", c.content)
	}
	got := fromFile(t, "a.md", "---\na: [\n---\n")
	require.Contains(t, got.Wrong[0].Message, "has front matter that is not YAML: ")
}

func TestWhatIsLeftOut(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 1000)
	const parent, hidden, other = `has ".." in its path and was left out`, "is hidden and was left out", "is not Markdown (.md or .markdown) and was left out"
	var files []string
	var want []portable.Record
	for _, c := range []struct{ name, source, why string }{
		{"folder/", "", ""},
		{".git/", "", ""},
		{"__MACOSX/a.md", "", hidden},
		{".hidden.md", "", hidden},
		{"a/.git/b.md", "", hidden},
		{"../../etc/passwd.md", "", parent},
		{`..\..\win.md`, "../../win.md", parent},
		{"a/../b.md", "", parent},
		{"..", "", parent},
		{"image.png", "", other},
		{"noext", "", other},
		{"", "", other},
		{long + ".txt", strings.Repeat("é", 150) + "…", other},
	} {
		record := portable.Record{Source: c.name, Skipped: true}
		if c.source != "" {
			record.Source = c.source
		}
		if c.why != "" {
			record.Wrong = []portable.FieldError{{Message: c.why}}
		}
		files, want = append(files, c.name, ""), append(want, record)
	}
	require.Equal(t, want, fromZip(t, zipped(t, files...)))
	for _, name := range []string{"a.md", "./a.md", "/a.md", "a..b/a.md"} {
		got := fromFile(t, name, "A")
		require.False(t, got.Skipped, name)
		require.Empty(t, got.Wrong, name)
		require.Equal(t, "a", got.Item.Title)
	}

	_, err := portable.NewMarkdownReader(strings.NewReader("no zip"), 6)
	require.ErrorIs(t, err, zipstream.ErrFormat)
}

func TestFileNames(t *testing.T) {
	t.Parallel()
	id := uuid.MustParse("01975e5a-0000-7000-8000-000000000000")
	for title, want := range map[string]string{
		"Note G: the engine's *patterns*": "note-g-the-engine-s-patterns-", "../../etc/passwd": "etc-passwd-", "???": "", "CON": "con-", "日本語 नमस्ते": "日本語-नमस्ते-",
		strings.Repeat("日", 50): strings.Repeat("日", 33) + "-", strings.Repeat("a", 99) + " b": strings.Repeat("a", 99) + "-", "a\\b:c|d": "a-b-c-d-", ".": "",
	} {
		content := markdown(t, portable.Item{ID: id, Title: title})
		archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
		require.NoError(t, err)
		require.Equal(t, want+id.String()+".md", archive.File[0].Name)
		require.LessOrEqual(t, len(archive.File[0].Name), 200)
	}
}

// TestReadable shows what a file looks like.
func TestReadable(t *testing.T) {
	t.Parallel()
	source := "https://example.com/note-g"
	content := markdown(t, portable.Item{
		ID: uuid.MustParse("01975e5a-0000-7000-8000-000000000000"), Title: "Note G", Content: "# Note G\n", SourceURL: &source, Tags: []string{"history", "2026"},
		Metadata:  map[string]any{"language": "en", "rating": json.Number("4.50"), "deep": map[string]any{"list": []any{nil, true, "no"}}},
		CreatedAt: time.Date(2026, 1, 22, 10, 0, 0, 123456000, time.UTC), UpdatedAt: time.Date(2026, 1, 23, 0, 0, 0, 0, time.UTC),
	})
	archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	require.NoError(t, err)
	file, err := archive.File[0].Open()
	require.NoError(t, err)
	text, err := io.ReadAll(file)
	require.NoError(t, err)
	require.Equal(t, `---
id: 01975e5a-0000-7000-8000-000000000000
title: Note G
source_url: "https://example.com/note-g"
tags:
- history
- "2026"
metadata:
  deep: {"list": [null, true, "no"]}
  language: en
  rating: 4.50
created_at: 2026-01-22T10:00:00.123456Z
updated_at: 2026-01-23T00:00:00Z
---
# Note G
`, string(text))
}

// TestAnArchiveThatAsksForMoreThanItHas has entries that share what they are made of and come to nothing: each takes as much time as a good one.
func TestAnArchiveThatAsksForMoreThanItHas(t *testing.T) {
	t.Parallel()
	const entries, effort = 10, 1 << 20
	var zeros bytes.Buffer
	w, err := flate.NewWriter(&zeros, flate.BestCompression)
	require.NoError(t, err)
	_, err = w.Write(make([]byte, effort))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	for name, c := range map[string]struct {
		stream []byte
		size   uint64
	}{
		"damaged":      {zeros.Bytes(), effort},
		"empty blocks": {append(bytes.Repeat([]byte{0, 0, 0, 0xff, 0xff}, effort/5+1), 3, 0), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			archive := shared(t, c.stream, c.size, entries)
			r, err := portable.ResumeMarkdown(bytes.NewReader(archive), int64(len(archive)), portable.Position{Unpacked: portable.MaxUnpacked - 5*effort})
			require.NoError(t, err)
			records, err := all(r)
			require.ErrorIs(t, err, portable.ErrUnpacked)
			require.Less(t, len(records), 6)
		})
	}
}

// shared makes an archive whose entries are all of one stream, with a wrong sum unless that is empty.
func shared(t *testing.T, stream []byte, size uint64, entries int) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	file, err := w.CreateRaw(&zip.FileHeader{
		Name: "a.md", Method: zip.Deflate, CRC32: uint32(size), CompressedSize64: uint64(len(stream)), UncompressedSize64: size,
	})
	require.NoError(t, err)
	_, err = file.Write(stream)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	content, end := out.Bytes()[:out.Len()-22], bytes.Clone(out.Bytes()[out.Len()-22:])
	entry := content[binary.LittleEndian.Uint32(end[16:]):]
	content = append(bytes.Clone(content), bytes.Repeat(entry, entries-1)...)
	for _, at := range []int{8, 10} {
		binary.LittleEndian.PutUint16(end[at:], uint16(entries))
	}
	binary.LittleEndian.PutUint32(end[12:], uint32(entries*len(entry)))
	return append(content, end...)
}
