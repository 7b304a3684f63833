package tasks_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/jobs/jobstest"
	"github.com/atlas-platform/atlas/internal/portable"
	"github.com/atlas-platform/atlas/internal/tasks"
	"github.com/atlas-platform/atlas/internal/transfer"
)

// manyItems are more than a few blocks of a file, which can't be compressed. Half of them have no id, so that only their place tells them apart.
func manyItems(t *testing.T, n int) []portable.Item {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	noise := rand.NewChaCha8([32]byte{1})
	out := make([]portable.Item, n)
	for i := range out {
		content := make([]byte, 1000+random.IntN(2000))
		_, _ = noise.Read(content)
		out[i] = portable.Item{Title: fmt.Sprintf("item %05d", i), Content: hex.EncodeToString(content), Tags: []string{"all", fmt.Sprint("t", i%7)}}
		if i%2 == 0 {
			out[i].ID, out[i].CreatedAt = uuid.New(), time.Unix(1_700_000_000+int64(i), 0).UTC()
			out[i].UpdatedAt = out[i].CreatedAt
		}
	}
	return out
}

// fileOf has an item that is not right behind every hundredth.
func fileOf(t *testing.T, format string, items []portable.Item) []byte {
	t.Helper()
	var out bytes.Buffer
	if format == transfer.NDJSON {
		for i, item := range items {
			require.NoError(t, portable.NewNDJSONWriter(&out).Write(item))
			if i%100 == 0 {
				out.WriteString("{\"title\":\"\"}\n")
			}
		}
		return out.Bytes()
	}
	archive := zip.NewWriter(&out)
	for i, item := range items {
		file, err := archive.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("%05d.md", i), Method: []uint16{zip.Store, zip.Deflate}[i%2]})
		require.NoError(t, err)
		identity := ""
		if item.ID != uuid.Nil {
			identity = fmt.Sprintf("id: %s\ncreated_at: %s\n", item.ID, item.CreatedAt.Format(time.RFC3339))
		}
		_, err = fmt.Fprintf(file, "---\n%stitle: %s\ntags: [%s, %s]\n---\n%s\n", identity, item.Title, item.Tags[0], item.Tags[1], item.Content)
		require.NoError(t, err)
		if i%100 == 0 {
			file, err := archive.Create(fmt.Sprintf("%05d-wrong.md", i))
			require.NoError(t, err)
			_, err = io.WriteString(file, "---\ncreated_at: never\n---\n")
			require.NoError(t, err)
		}
	}
	require.NoError(t, archive.Close())
	return out.Bytes()
}

// killedAt runs a job by workers that stop at these places of a file and are killed there, then by some that are killed after a random number of saves,
// and at last by one that is left alone.
func (w *world) killedAt(t *testing.T, job uuid.UUID, places []int64, random *rand.Rand) jobstest.Row {
	t.Helper()
	for _, place := range places {
		stopped, kill := w.process(t, place)
		select {
		case <-stopped:
		case <-time.After(jobstest.Patience):
			t.Error("the worker does not get to its place")
		}
		kill()
		// On a busy machine its own rescuer may have taken the lease of a second from it: that is a job in the queue, and no end either.
		require.Contains(t, []string{"RUNNING", "QUEUED"}, jobstest.Read(t, w.Pool, job).State, "nobody has settled it")
	}
	for range 2 {
		_, kill := w.process(t, -1)
		begin, saves := jobstest.Read(t, w.Pool, job).Version, int64(random.IntN(8))
		require.Eventually(t, func() bool {
			row := jobstest.Read(t, w.Pool, job)
			return row.Finished != nil || (row.LeaseOwner != nil && row.Version >= begin+3+saves)
		}, jobstest.Patience, time.Millisecond)
		kill()
	}
	_, kill := w.process(t, -1)
	defer kill()
	require.Eventually(t, func() bool { return jobstest.Read(t, w.Pool, job).Finished != nil }, jobstest.Patience, 5*time.Millisecond)
	row := jobstest.Read(t, w.Pool, job)
	require.Greater(t, row.Attempt, len(places))
	return row
}

// places are a few of a file.
func places(size int, random *rand.Rand) []int64 {
	out := []int64{1, 1 + random.Int64N(int64(size)/2), int64(size)/2 + random.Int64N(int64(size)/2)}
	slices.Sort(out)
	return out
}

// TestImportsOfKilledWorkers: nothing is lost, nothing is there twice, and what is not right is told once.
func TestImportsOfKilledWorkers(t *testing.T) {
	t.Parallel()
	const n = 1600
	items := manyItems(t, n)
	for _, c := range []struct{ store, format string }{{"folder", transfer.NDJSON}, {"folder", transfer.Markdown}, {"s3", transfer.Markdown}} {
		t.Run(c.store+" "+c.format, func(t *testing.T) {
			t.Parallel()
			w, random := newWorld(t, stores[c.store](t)), rand.New(rand.NewPCG(3, 4))
			content := fileOf(t, c.format, items)
			path := w.upload(t, "file"+transfer.Extension(c.format), content)
			job := w.queue(t, tasks.TypeImport, w.collection, map[string]any{"path": path})
			made := result[tasks.ImportResult](t, w.killedAt(t, job, places(len(content), random), random))
			require.EqualValues(t, n, made.Created)
			require.Zero(t, made.Unchanged)
			require.EqualValues(t, n/100, made.Failed)
			require.Len(t, made.Errors, n/100)
			told := map[string]bool{}
			for _, e := range made.Errors {
				told[e.Source] = true
			}
			require.Len(t, told, n/100)
			require.Equal(t, n, w.live(t, w.collection))
			require.Equal(t, n, w.count(t, "SELECT count(DISTINCT title) FROM items"))
			require.Equal(t, 2*n, w.count(t, "SELECT count(*) FROM item_tags"))
			require.Equal(t, n, w.count(t, "SELECT count(DISTINCT aggregate_id) FROM outbox WHERE payload->>'event_type' = 'ItemCreated'"))
			require.Equal(t, n, w.count(t, "SELECT count(*) FROM outbox WHERE payload->>'event_type' = 'ItemCreated'"))

			again := w.queue(t, tasks.TypeImport, w.collection, map[string]any{"path": path})
			_, kill := w.process(t, -1)
			defer kill()
			made = result[tasks.ImportResult](t, jobstest.Becomes(t, w.Pool, again, "SUCCEEDED"))
			require.EqualValues(t, n, made.Unchanged)
			require.Equal(t, n, w.live(t, w.collection))
		})
	}
}

// TestExportsOfKilledWorkers: the file is not there until all of it is, and what the killed ones have left behind is no file.
func TestExportsOfKilledWorkers(t *testing.T) {
	t.Parallel()
	const n = 1600
	items := manyItems(t, n)
	for _, c := range []struct{ store, format string }{{"folder", transfer.Markdown}, {"s3", transfer.NDJSON}} {
		t.Run(c.store+" "+c.format, func(t *testing.T) {
			t.Parallel()
			w, random := newWorld(t, stores[c.store](t)), rand.New(rand.NewPCG(5, 6))
			w.Exec(t, `INSERT INTO items (id, collection_id, title, content, created_by, updated_by)
				SELECT gen_random_uuid(), $1, t.title, t.content, $2, $2
				FROM unnest($3::text[], $4::text[]) AS t (title, content)`, w.collection, w.User, titlesOf(items), contentsOf(items))
			job := w.queue(t, tasks.TypeExport, w.collection, map[string]any{"format": c.format})
			size := len(fileOf(t, c.format, items))
			made := result[tasks.ExportResult](t, w.killedAt(t, job, places(size/2, random), random))
			require.EqualValues(t, n, made.Items)

			whole := func() {
				content := w.get(t, made.Path)
				sum := sha256.Sum256(content)
				require.Equal(t, hex.EncodeToString(sum[:]), made.SHA256)
				require.Equal(t, titlesOf(items), titlesIn(t, c.format, content))
			}
			whole()
			var files []string
			for info, err := range w.store.List(t.Context(), "") {
				require.NoError(t, err)
				files = append(files, info.Name)
			}
			require.Contains(t, files, made.Path)
			for _, file := range files { // of one that was killed after it had made its file, before it could say so
				require.Equal(t, titlesOf(items), titlesIn(t, c.format, w.get(t, file)), file)
			}
			dropped, err := w.store.DropUnfinished(t.Context(), time.Now().Add(time.Hour))
			require.NoError(t, err)
			if w.at[:4] == "file" { // an S3 store knows of a file with its first part
				require.Positive(t, dropped)
			}
			whole()
		})
	}
}

func titlesOf(items []portable.Item) (out []string) {
	for i := range items {
		out = append(out, items[i].Title)
	}
	return out
}

func contentsOf(items []portable.Item) (out []string) {
	for i := range items {
		out = append(out, items[i].Content)
	}
	return out
}

// titlesIn are those of the items in a file, sorted.
func titlesIn(t *testing.T, format string, content []byte) (out []string) {
	t.Helper()
	var reader portable.Reader = portable.NewNDJSONReader(bytes.NewReader(content))
	if format == transfer.Markdown {
		archive, err := portable.NewMarkdownReader(bytes.NewReader(content), int64(len(content)))
		require.NoError(t, err)
		reader = archive
	}
	for {
		record, err := reader.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(out)
			return out
		}
		require.NoError(t, err)
		require.Empty(t, record.Wrong)
		out = append(out, record.Item.Title)
	}
}
