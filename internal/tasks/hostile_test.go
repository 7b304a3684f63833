package tasks_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/objects/objectstest"
	"github.com/atlas-platform/atlas/internal/portable"
	"github.com/atlas-platform/atlas/internal/tasks"
)

type entry struct{ name, content string }

func zipOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	for _, e := range entries {
		file, err := archive.Create(e.name)
		require.NoError(t, err)
		_, err = io.WriteString(file, e.content)
		require.NoError(t, err)
	}
	require.NoError(t, archive.Close())
	return out.Bytes()
}

// TestHostileFiles: one entry or line that is meant to do harm is told and left out, and what is around it is imported.
func TestHostileFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, objectstest.Folder(t))
	w.start(t, w.store)
	zeros := strings.Repeat("\x00", 64<<20)
	archive := func(entries ...entry) []byte {
		return zipOf(t, append(append([]entry{{"a.md", "first"}}, entries...), entry{"z.md", "last"})...)
	}
	lines := func(between ...string) []byte {
		return []byte("{\"title\":\"first\"}\n" + strings.Join(between, "\n") + "\n{\"title\":\"last\"}\n")
	}
	for name, c := range map[string]struct {
		file                     []byte
		format                   string
		failed, skipped, created int64
		says                     string
	}{
		"a bomb":                     {archive(entry{"bomb.md", zeros}), "markdown", 1, 0, 2, "more than"},
		"a bomb that is no Markdown": {archive(entry{"bomb.bin", zeros}), "markdown", 0, 1, 2, "Markdown"},
		"paths that leave":           {archive(entry{"../../etc/cron.md", "x"}, entry{`..\..\x.md`, "x"}, entry{"a/../../b.md", "x"}), "markdown", 0, 3, 2, ".."},
		"the same name twice":        {archive(entry{"a.md", "again"}), "markdown", 0, 0, 3, ""},
		"aliases":                    {archive(entry{"yaml.md", "---\na: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n---\n"}), "markdown", 1, 0, 2, "alias"},
		"bytes that are no text":     {archive(entry{"b.md", "\xff\xfe\x00"}), "markdown", 1, 0, 2, "UTF-8"},
		"a line without an end":      {lines(`{"title":"` + strings.Repeat("x", 20<<20) + `"}`), "ndjson", 1, 0, 2, "longer"},
		"deep brackets":              {lines(strings.Repeat(`{"metadata":`, 10_000)), "ndjson", 1, 0, 2, "JSON"},
		"lines that are no text":     {lines("{\"title\":\"\xff\"}", "\xc3\x28", "{\"title\":\"\\ud800\"}"), "ndjson", 3, 0, 2, "UTF-8"},
		"a NUL":                      {lines(`{"title":"a\u0000"}`), "ndjson", 1, 0, 2, "NUL"},
		"a NUL in a field's name":    {lines(`{"title":"a","x\u0000":1}`), "ndjson", 1, 0, 2, "not a field"},
		"a NUL in metadata":          {lines(`{"title":"a","metadata":{"x\u0000":1}}`), "ndjson", 1, 0, 2, "NUL"},
		"a NUL in a file's name":     {archive(entry{"x\x00.md", "text"}), "markdown", 1, 0, 2, "NUL"},
		"a number too large":         {lines(`{"title":"x","metadata":{"n":1e999999}}`), "ndjson", 1, 0, 2, ""},
		"the future":                 {lines(`{"title":"x","created_at":"9999-12-31T23:59:59Z"}`, `{"title":"x","created_at":"0000-01-01T00:00:00Z"}`), "ndjson", 2, 0, 2, "future"},
	} {
		t.Run(name, func(t *testing.T) {
			collection := w.owned(t)
			path := "imports/" + collection.String() + "/file"
			w.put(t, path, c.file)
			row, _ := w.runs(t, tasks.TypeImport, collection, map[string]any{"path": path, "format": c.format})
			made := result[tasks.ImportResult](t, row)
			require.Equal(t, []int64{c.created, c.failed, c.skipped}, []int64{made.Created, made.Failed, made.Skipped}, "%+v", made.Errors)
			require.EqualValues(t, c.created, w.live(t, collection))
			if c.says != "" {
				require.Contains(t, made.Errors[0].Message, c.says)
			}
			require.Less(t, len(row.Result), 10_000)
		})
	}
}

// TestTheSameItemTwice has copies of an item in one file, by its id and by its source, next to each other and batches apart.
func TestTheSameItemTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, objectstest.Folder(t))
	w.start(t, w.store)
	var out strings.Builder
	for range 2 {
		for i := range 500 {
			for range 2 {
				fmt.Fprintf(&out, `{"id":"01890a5d-ac96-774b-bcce-%012d","created_at":"2024-01-01T00:00:00Z","title":"by id %d"}`+"\n", i, i)
				fmt.Fprintf(&out, `{"title":"by source %d","source_url":"https://example.com/%d"}`+"\n", i, i)
			}
		}
	}
	row, _ := w.runs(t, tasks.TypeImport, w.collection, map[string]any{"path": w.upload(t, "file", []byte(out.String()))})
	made := result[tasks.ImportResult](t, row)
	require.EqualValues(t, 1000, made.Created)
	require.EqualValues(t, 3000, made.Unchanged)
	require.Equal(t, 1000, w.count(t, "SELECT count(DISTINCT title) FROM items"))
	require.Equal(t, 1000, w.live(t, w.collection))
}

// TestDamagedArchives cuts an archive at many places, and changes some of its bytes: an attempt ends at once, or tells which files are damaged, and what is
// imported is what was in the archive.
func TestDamagedArchives(t *testing.T) {
	t.Parallel()
	w := newWorld(t, objectstest.Folder(t))
	w.start(t, w.store)
	var entries []entry
	for i := range 5 {
		entries = append(entries, entry{fmt.Sprintf("%d.md", i), fmt.Sprintf("---\ntitle: item %d\n---\n%s", i, strings.Repeat("text ", 50))})
	}
	whole := zipOf(t, entries...)
	try := func(name string, content []byte) {
		t.Helper()
		collection := w.owned(t)
		path := "imports/" + collection.String() + "/" + name
		w.put(t, path, content)
		row, code := w.runs(t, tasks.TypeImport, collection, map[string]any{"path": path})
		require.Equal(t, 1, row.Attempt, name)
		if row.State == "FAILED" {
			require.Equal(t, "invalid_file", code, name)
		} else {
			require.Equal(t, "SUCCEEDED", row.State, name)
		}
		require.Zero(t, w.count(t, "SELECT count(*) FROM items WHERE collection_id = $1 AND title NOT LIKE 'item _' AND title NOT SIMILAR TO '_'", collection), name)
	}
	for cut := 0; cut < len(whole); cut += 37 {
		try(fmt.Sprintf("cut-%d.zip", cut), whole[:cut])
	}
	for at := 0; at < len(whole); at += 53 {
		changed := bytes.Clone(whole)
		changed[at] ^= 0x5a
		try(fmt.Sprintf("changed-%d.zip", at), changed)
	}
}

// TestTooMuchInAnArchive ends an import whose archive unpacks to more than any that is meant well.
func TestTooMuchInAnArchive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, objectstest.Folder(t))
	w.start(t, w.store)
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	for range portable.MaxFiles + 1 {
		_, err := archive.CreateRaw(&zip.FileHeader{Name: "a"})
		require.NoError(t, err)
	}
	require.NoError(t, archive.Close())
	row, code := w.runs(t, tasks.TypeImport, w.collection, map[string]any{"path": w.upload(t, "many.zip", out.Bytes())})
	require.Equal(t, "FAILED", row.State)
	require.Equal(t, "invalid_file", code)
	require.Equal(t, 1, row.Attempt)
}
