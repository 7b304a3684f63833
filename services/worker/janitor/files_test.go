package janitor_test

import (
	"context"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/objects/objectstest"
	"github.com/atlas-platform/atlas/services/worker/janitor"
)

// replacing is a store in which somebody replaces a file after it was listed.
type replacing struct {
	objects.Store
	name string
}

func (s replacing) List(ctx context.Context, folder string) iter.Seq2[objects.Info, error] {
	listed := []objects.Info{}
	for info, err := range s.Store.List(ctx, folder) {
		if err != nil {
			return func(yield func(objects.Info, error) bool) { yield(info, err) }
		}
		listed = append(listed, info)
	}
	return func(yield func(objects.Info, error) bool) {
		for _, info := range listed {
			if info.Name == s.name {
				if _, err := s.Create(ctx, s.name, strings.NewReader("new"), objects.AnyVersion); err != nil {
					yield(info, err)
					return
				}
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

func TestFilesGoAfterTheirTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	at := objectstest.Folder(t)
	store := objectstest.Open(t, at)
	folder := filepath.FromSlash(strings.TrimPrefix(at, "file://"))
	c := uuid.NewString()
	age := func(name string, ago time.Duration) {
		t.Helper()
		require.NoError(t, os.Chtimes(filepath.Join(folder, filepath.FromSlash(name)), time.Time{}, time.Now().Add(-ago)))
	}
	put := func(name string, ago time.Duration) string {
		t.Helper()
		_, err := store.Create(t.Context(), name, strings.NewReader("x"), objects.AnyVersion)
		require.NoError(t, err)
		age(name, ago)
		return name
	}
	kept := []string{
		put("exports/"+c+"/fresh.ndjson", time.Hour), put("imports/"+c+"/fresh.ndjson", time.Hour), put("backup/old.ndjson", 9999*time.Hour),
		put("exports/"+c+"/replaced.ndjson", 49*time.Hour),
	}
	put("exports/"+c+"/old.ndjson", 49*time.Hour)
	put("exports/"+c+"/old.zip", 99*time.Hour)
	put("imports/"+c+"/old.zip", 49*time.Hour)
	for name, ago := range map[string]time.Duration{"exports/.unfinished-old": 25 * time.Hour, "exports/.unfinished-new": 23 * time.Hour} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, filepath.FromSlash(name)), []byte("x"), 0o600))
		age(name, ago)
	}
	j := janitor.New(janitor.Config{Files: 48 * time.Hour}, janitor.Deps{Logger: kafkatest.Logger(t), Pool: b.Pool, Objects: replacing{Store: store, name: kept[3]}})
	removed, err := j.Round(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"exports": 2, "imports": 1, "unfinished_files": 1}, removed)
	var left []string
	for info, err := range store.List(t.Context(), "") {
		require.NoError(t, err)
		left = append(left, info.Name)
	}
	slices.Sort(kept)
	slices.Sort(left)
	require.Equal(t, kept, left)
	require.FileExists(t, filepath.Join(folder, "exports", ".unfinished-new"))
}
