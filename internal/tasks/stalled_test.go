package tasks_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/jobs/jobstest"
	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/tasks"
	"github.com/atlas-platform/atlas/internal/transfer"
)

// stalling is a store whose first file is all written, and not yet there, when the worker stalls: it notices nothing of what happens until it goes on.
type stalling struct {
	objects.Store
	creations        atomic.Int32
	stalled, goingOn chan struct{}
	ended            chan error
}

func (s *stalling) Create(ctx context.Context, name string, content io.Reader, over objects.Version) (objects.Info, error) {
	if s.creations.Add(1) > 1 {
		return s.Store.Create(ctx, name, content, over)
	}
	info, err := s.Store.Create(context.WithoutCancel(ctx), name, io.MultiReader(content, stall{s}), over)
	s.ended <- err
	return info, err
}

type stall struct{ *stalling }

func (s stall) Read([]byte) (int, error) {
	close(s.stalled)
	<-s.goingOn
	return 0, io.EOF
}

// TestAStalledExportReplacesNothing: the file is that of the attempt that succeeded, also when an earlier one only has to say that its own is complete.
func TestAStalledExportReplacesNothing(t *testing.T) {
	t.Parallel()
	for name, at := range stores {
		for _, before := range []string{"", "an earlier export"} {
			t.Run(name+" "+before, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, at(t))
				item := w.Item(t, w.collection, "one", "")
				path := transfer.ExportFolder(w.collection) + "all.ndjson"
				if before != "" {
					w.put(t, path, []byte(before))
				}
				store := &stalling{Store: w.store, stalled: make(chan struct{}), goingOn: make(chan struct{}), ended: make(chan error, 1)}
				w.start(t, store)
				job := w.queue(t, tasks.TypeExport, w.collection, map[string]any{"path": path})
				<-store.stalled
				w.Update(t, item, "two")
				w.Exec(t, "UPDATE jobs SET lease_expires_at = now() - interval '1 hour' WHERE id = $1", job) // by the clock of whoever takes over
				made := result[tasks.ExportResult](t, jobstest.Becomes(t, w.Pool, job, "SUCCEEDED"))
				close(store.goingOn)
				require.ErrorIs(t, <-store.ended, objects.ErrChanged)

				content := w.get(t, path)
				require.Contains(t, string(content), "two")
				sum := sha256.Sum256(content)
				require.Equal(t, hex.EncodeToString(sum[:]), made.SHA256)
			})
		}
	}
}
