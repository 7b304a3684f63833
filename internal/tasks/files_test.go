package tasks_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/jobs/jobstest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/objects/objectstest"
	"github.com/atlas-platform/atlas/internal/portable"
	"github.com/atlas-platform/atlas/internal/portable/portabletest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/tasks"
	"github.com/atlas-platform/atlas/internal/transfer"
)

// world is a database and an object store with a collection that its user owns.
type world struct {
	*indexingtest.Seed
	uri        string
	at         string
	store      objects.Store
	collection uuid.UUID
}

func newWorld(t *testing.T, at string) *world {
	t.Helper()
	uri := pgtest.NewURL(t)
	w := &world{Seed: indexingtest.NewSeed(t, pgtest.Open(t, uri)), uri: uri, at: at, store: objectstest.Open(t, at)}
	w.collection = w.owned(t)
	return w
}

func (w *world) owned(t *testing.T) uuid.UUID {
	t.Helper()
	collection := w.Collection(t)
	w.Exec(t, "INSERT INTO memberships (id, collection_id, user_id, role) VALUES ($1, $2, $3, 'owner')", uuid.New(), collection, w.User)
	return collection
}

// start starts a worker.
func (w *world) start(t *testing.T, store objects.Store) (stop func()) {
	t.Helper()
	return kafkatest.Start(t, newEngine(t, w.Pool, store).Run)
}

func newEngine(t testing.TB, pool *pgxpool.Pool, store objects.Store) *jobs.Engine {
	return jobs.New(jobstest.Fast(), jobs.Deps{
		Logger: kafkatest.Logger(t), Pool: pool, Tasks: tasks.All(tasks.Deps{Logger: kafkatest.Logger(t), Pool: pool, Objects: store}),
	})
}

func (w *world) queue(t *testing.T, kind string, collection uuid.UUID, parameters map[string]any) uuid.UUID {
	t.Helper()
	parameters["collection_id"] = collection
	raw, err := json.Marshal(parameters)
	require.NoError(t, err)
	id := uuid.Must(uuid.NewV7())
	w.Exec(t, "INSERT INTO jobs (id, type, collection_id, created_by, parameters, max_attempts) VALUES ($1, $2, $3, $4, $5, 100)", id, kind, collection, w.User, raw)
	return id
}

// runs runs a job to its end.
func (w *world) runs(t *testing.T, kind string, collection uuid.UUID, parameters map[string]any) (row jobstest.Row, code string) {
	t.Helper()
	id := w.queue(t, kind, collection, parameters)
	require.Eventually(t, func() bool { return jobstest.Read(t, w.Pool, id).Finished != nil }, 4*jobstest.Patience, 5*time.Millisecond) // some have much to do
	var c *string
	require.NoError(t, w.Pool.QueryRow(t.Context(), "SELECT error_code FROM jobs WHERE id = $1", id).Scan(&c))
	if c != nil {
		code = *c
	}
	return jobstest.Read(t, w.Pool, id), code
}

func (w *world) put(t *testing.T, path string, content []byte) {
	t.Helper()
	_, err := w.store.Create(t.Context(), path, bytes.NewReader(content), objects.AnyVersion)
	require.NoError(t, err)
}

func (w *world) get(t *testing.T, path string) []byte {
	t.Helper()
	in, _, err := w.store.Open(t.Context(), path, objects.Range{})
	require.NoError(t, err)
	defer in.Close()
	content, err := io.ReadAll(in)
	require.NoError(t, err)
	return content
}

func (w *world) upload(t *testing.T, name string, content []byte) (path string) {
	t.Helper()
	path = transfer.ImportFolder(w.collection) + name
	w.put(t, path, content)
	return path
}

func (w *world) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, w.Pool.QueryRow(context.Background(), query, args...).Scan(&n))
	return n
}

func (w *world) live(t *testing.T, collection uuid.UUID) int {
	t.Helper()
	return w.count(t, "SELECT count(*) FROM items WHERE collection_id = $1 AND deleted_at IS NULL", collection)
}

func result[T any](t *testing.T, row jobstest.Row) (r T) {
	t.Helper()
	require.Equal(t, "SUCCEEDED", row.State, "%v", row.Error)
	require.NoError(t, json.Unmarshal(row.Result, &r))
	return r
}

// lines are items as NDJSON that say nothing of themselves but a title.
func lines(n int) []byte {
	var out bytes.Buffer
	for i := range n {
		fmt.Fprintf(&out, `{"title":"item %d","content":%q,"tags":["a","t%d"]}`+"\n", i, strings.Repeat("x", 200), i%7)
	}
	return out.Bytes()
}

var stores = map[string]func(testing.TB) string{"folder": objectstest.Folder, "s3": objectstest.S3}

// TestThereAndBack exports what was imported, in both forms, by both stores, until it comes out as it went in.
func TestThereAndBack(t *testing.T) {
	t.Parallel()
	for name, at := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, at(t))
			w.start(t, w.store)
			random, distinct := rand.New(rand.NewPCG(1, 2)), map[string]bool{}
			var file bytes.Buffer
			writer, made := portable.NewNDJSONWriter(&file), 0
			for made < 500 {
				item := portabletest.Item(random)
				if item.SourceURL != nil {
					if distinct[*item.SourceURL] {
						continue
					}
					distinct[*item.SourceURL] = true
				}
				if _, wrong := transfer.Check(item, time.Now()); len(wrong) > 0 {
					continue
				}
				require.NoError(t, writer.Write(item))
				made++
			}
			row, _ := w.runs(t, tasks.TypeImport, w.collection, map[string]any{"path": w.upload(t, "random.ndjson", file.Bytes())})
			first := result[tasks.ImportResult](t, row)
			require.EqualValues(t, 500, first.Created+first.Unchanged)
			require.Equal(t, int(first.Created), w.live(t, w.collection))
			require.Zero(t, first.Failed, first.Errors)
			require.EqualValues(t, file.Len(), row.Done)
			require.EqualValues(t, file.Len(), row.Total)

			forms := map[string][]byte{}
			for _, format := range []string{"ndjson", "markdown"} {
				row, _ := w.runs(t, tasks.TypeExport, w.collection, map[string]any{"format": format})
				made := result[tasks.ExportResult](t, row)
				require.True(t, strings.HasPrefix(made.Path, transfer.ExportFolder(w.collection)))
				require.Equal(t, first.Created, made.Items)
				require.Equal(t, first.Created, row.Done)
				forms[format] = w.get(t, made.Path)
				sum := sha256.Sum256(forms[format])
				require.Equal(t, hex.EncodeToString(sum[:]), made.SHA256)
				require.EqualValues(t, len(forms[format]), made.Bytes)

				other := w.owned(t)
				path := transfer.ImportFolder(other) + "again"
				w.put(t, path, forms[format])
				for again := range 3 {
					row, _ := w.runs(t, tasks.TypeImport, other, map[string]any{"path": path, "format": format, "on_error": []string{"skip", "fail"}[again%2]})
					r := result[tasks.ImportResult](t, row)
					require.Zero(t, r.Failed, r.Errors)
					if again == 0 {
						require.Equal(t, first.Created, r.Created)
					} else {
						require.Zero(t, r.Created, "it is all there")
						require.Equal(t, first.Created, r.Unchanged)
					}
				}
				require.Equal(t, int(first.Created), w.live(t, other))
				row, _ = w.runs(t, tasks.TypeExport, other, map[string]any{"path": transfer.ExportFolder(other) + "named.ndjson"})
				require.Equal(t, first.Created, result[tasks.ExportResult](t, row).Items)
				require.Equal(t, withoutIDs(t, forms["ndjson"]), withoutIDs(t, w.get(t, transfer.ExportFolder(other)+"named.ndjson")))
			}
		})
	}
}

// withoutIDs are the lines of a file, whose order follows from the ids.
func withoutIDs(t *testing.T, content []byte) map[string]int {
	t.Helper()
	out := map[string]int{}
	for line := range bytes.Lines(content) {
		var item map[string]any
		require.NoError(t, json.Unmarshal(line, &item))
		delete(item, "id")
		raw, err := json.Marshal(item)
		require.NoError(t, err)
		out[string(raw)]++
	}
	return out
}

func TestPathsThatACallerMayNotName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, objectstest.Folder(t))
	w.start(t, w.store)
	other := w.owned(t)
	secret := transfer.ImportFolder(other) + "secret.ndjson"
	w.put(t, secret, []byte(`{"title":"secret"}`))
	paths := []string{
		secret, "imports/x.ndjson", "x.ndjson", "imports/" + w.collection.String() + "/../" + other.String() + "/secret.ndjson", "/etc/passwd", "../x",
		"imports/" + w.collection.String(), "imports/" + w.collection.String() + "x/y", "",
	}
	w.Exec(t, "UPDATE memberships SET role = 'editor' WHERE collection_id = $1", w.collection)
	for _, path := range paths {
		row, code := w.runs(t, tasks.TypeImport, w.collection, map[string]any{"path": path})
		require.Equal(t, "FAILED", row.State, path)
		require.Equal(t, "not_allowed", code, path)
		require.Equal(t, 1, row.Attempt, path)
		if path = strings.Replace(path, "imports", "exports", 1); path == "" {
			continue
		}
		_, code = w.runs(t, tasks.TypeExport, w.collection, map[string]any{"path": path})
		require.Equal(t, "not_allowed", code, path)
	}
	require.Zero(t, w.live(t, w.collection))
	w.Exec(t, "UPDATE users SET is_admin = true")
	row, _ := w.runs(t, tasks.TypeImport, w.collection, map[string]any{"path": secret})
	require.EqualValues(t, 1, result[tasks.ImportResult](t, row).Created)
	row, _ = w.runs(t, tasks.TypeExport, w.collection, map[string]any{"path": "backup/of/it.ndjson"})
	require.Equal(t, "backup/of/it.ndjson", result[tasks.ExportResult](t, row).Path)
}

func TestWhoMayNotMoveItems(t *testing.T) {
	t.Parallel()
	w := newWorld(t, objectstest.Folder(t))
	w.start(t, w.store)
	path := w.upload(t, "x", lines(3))
	both := func(want string) {
		t.Helper()
		for kind, parameters := range map[string]map[string]any{tasks.TypeImport: {"path": path}, tasks.TypeExport: {}} {
			_, code := w.runs(t, kind, w.collection, parameters)
			require.Equal(t, want, code, kind)
		}
	}
	both("")
	w.Exec(t, "UPDATE memberships SET role = 'viewer'")
	both("not_allowed")
	w.Exec(t, "UPDATE memberships SET role = 'owner'")
	w.Exec(t, "UPDATE users SET disabled_at = now(), is_admin = true")
	both("not_allowed")
	w.Exec(t, "UPDATE users SET disabled_at = NULL")
	w.Exec(t, "DELETE FROM memberships")
	both("") // an admin
	w.Exec(t, "UPDATE collections SET deleted_at = now()")
	both("collection_not_found")
	require.Equal(t, 3, w.count(t, "SELECT count(*) FROM items"))
}

func TestWithoutAnObjectStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, objectstest.Folder(t))
	w.start(t, nil)
	for _, kind := range []string{tasks.TypeImport, tasks.TypeExport} {
		row, code := w.runs(t, kind, w.collection, map[string]any{"path": "imports/x"})
		require.Equal(t, "no_object_store", code)
		require.Contains(t, *row.Error, "OBJECT_STORE_URL")
		require.Equal(t, 1, row.Attempt)
	}
}

func TestLinesThatAreNotRight(t *testing.T) {
	t.Parallel()
	w := newWorld(t, objectstest.Folder(t))
	w.start(t, w.store)
	content := "{\"title\":\"one\"}\n\n{\"title\":\"\"}\nno json\n{\"title\":\"two\",\"nope\":1}\n{\"title\":\"three\"}\n" + strings.Repeat("[", 1000) + "\n{\"title\":\"a\\u0000b\"}"
	path := w.upload(t, "x", []byte(content))

	row, code := w.runs(t, tasks.TypeImport, w.collection, map[string]any{"path": path, "on_error": "fail"})
	require.Equal(t, "invalid_items", code)
	require.Contains(t, *row.Error, "5 items are not right, so none was imported: line 3: /title must not be blank; line 4")
	require.Zero(t, w.live(t, w.collection))

	row, _ = w.runs(t, tasks.TypeImport, w.collection, map[string]any{"path": path, "dry_run": true})
	dry := result[tasks.ImportResult](t, row)
	require.EqualValues(t, 2, dry.Created)
	require.EqualValues(t, 5, dry.Failed)
	require.Zero(t, w.count(t, "SELECT count(*) FROM items"))
	require.Zero(t, w.count(t, "SELECT count(*) FROM outbox WHERE payload->>'event_type' = 'ItemCreated'"))

	row, _ = w.runs(t, tasks.TypeImport, w.collection, map[string]any{"path": path})
	r := result[tasks.ImportResult](t, row)
	require.EqualValues(t, 2, r.Created)
	require.EqualValues(t, 5, r.Failed)
	require.Len(t, r.Errors, 5)
	require.Equal(t, tasks.ImportError{Source: "line 3", Pointer: "/title", Message: "must not be blank"}, r.Errors[0])
	require.Equal(t, 2, w.live(t, w.collection))
	require.Equal(t, 2, w.count(t, "SELECT count(*) FROM outbox WHERE payload->>'event_type' = 'ItemCreated'"))

	row, _ = w.runs(t, tasks.TypeImport, w.collection, map[string]any{"path": path})
	require.EqualValues(t, 2, result[tasks.ImportResult](t, row).Unchanged, "lines without an id are known by their file")
	require.Equal(t, 2, w.live(t, w.collection))
}

func TestFilesThatCannotBeImported(t *testing.T) {
	t.Parallel()
	w := newWorld(t, objectstest.Folder(t))
	w.start(t, w.store)
	for name, content := range map[string]string{"none.zip": "", "text.zip": "no archive", "cut.zip": "PK\x03\x04\x00\x00"} {
		row, code := w.runs(t, tasks.TypeImport, w.collection, map[string]any{"path": w.upload(t, name, []byte(content)), "format": "markdown"})
		require.Equal(t, "invalid_file", code, name)
		require.Equal(t, 1, row.Attempt)
	}
	_, code := w.runs(t, tasks.TypeImport, w.collection, map[string]any{"path": transfer.ImportFolder(w.collection) + "absent"})
	require.Equal(t, "file_not_found", code)
	row, _ := w.runs(t, tasks.TypeImport, w.collection, map[string]any{"path": w.upload(t, "empty.ndjson", nil)})
	require.Zero(t, result[tasks.ImportResult](t, row).Created)
}

// TestFilesWithoutAnyItem: a job that had nothing to show for it did not succeed.
func TestFilesWithoutAnyItem(t *testing.T) {
	t.Parallel()
	w := newWorld(t, objectstest.Folder(t))
	w.start(t, w.store)
	var archive bytes.Buffer
	writer := zip.NewWriter(&archive)
	_, err := writer.Create("notes/one.md")
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	for name, content := range map[string]string{"zip": archive.String(), "binary": "\x7fELF\x00\n\x01\x02\n", "prose": "once upon\na time\n"} {
		for _, dry := range []bool{false, true} {
			row, code := w.runs(t, tasks.TypeImport, w.collection, map[string]any{"path": w.upload(t, name, []byte(content)), "format": "ndjson", "dry_run": dry})
			require.Equal(t, "FAILED", row.State, name)
			require.Equal(t, "invalid_file", code, name)
			require.Equal(t, 1, row.Attempt)
			require.Contains(t, *row.Error, "no line of the file could be read as an item: line 1: ")
			require.Contains(t, *row.Error, "format: markdown")
			var r tasks.ImportResult
			require.NoError(t, json.Unmarshal(row.Result, &r))
			require.Positive(t, r.Failed)
			require.NotEmpty(t, r.Errors)
		}
	}
	row, _ := w.runs(t, tasks.TypeImport, w.collection, map[string]any{"path": w.upload(t, "blank", []byte("\n\n"))})
	require.Zero(t, result[tasks.ImportResult](t, row).Failed)
}

// TestProgressSaysWhatIsGoingOn looks at the words beside the numbers.
func TestProgressSaysWhatIsGoingOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, objectstest.Folder(t))
	w.start(t, w.store)
	doing := func(kind string, parameters map[string]any) (message string) {
		row, code := w.runs(t, kind, w.collection, parameters)
		require.Equal(t, "SUCCEEDED", row.State, code)
		require.NoError(t, w.Pool.QueryRow(t.Context(), "SELECT coalesce(progress_message, '') FROM jobs ORDER BY id DESC LIMIT 1").Scan(&message))
		return message
	}
	path := w.upload(t, "x", lines(3))
	require.Equal(t, "trying what an import would do", doing(tasks.TypeImport, map[string]any{"path": path, "dry_run": true}))
	require.Equal(t, "importing items", doing(tasks.TypeImport, map[string]any{"path": path, "on_error": "fail"}))
	require.Equal(t, "writing items to the file", doing(tasks.TypeExport, map[string]any{}))
	require.Equal(t, "sending items to the index again", doing(tasks.TypeReindex, map[string]any{}))
	w.Exec(t, "UPDATE collections SET deleted_at = now()")
	require.Equal(t, "deleting items", doing(tasks.TypePurge, map[string]any{}))
}
