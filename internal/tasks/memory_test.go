package tasks_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/objects/objectstest"
	"github.com/atlas-platform/atlas/internal/portable"
	"github.com/atlas-platform/atlas/internal/tasks"
	"github.com/atlas-platform/atlas/internal/transfer"
)

// weighed is a store that looks at what is alive in memory, again and again while a file is read or written.
type weighed struct {
	objects.Store
	peak uint64
}

func (s *weighed) weigh() {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	s.peak = max(s.peak, m.HeapAlloc)
}

func (s *weighed) Open(ctx context.Context, name string, r objects.Range) (io.ReadCloser, objects.Info, error) {
	in, info, err := s.Store.Open(ctx, name, r)
	if err != nil {
		return nil, info, err
	}
	return struct {
		io.Reader
		io.Closer
	}{&weighedReader{in: in, store: s}, in}, info, nil
}

func (s *weighed) Create(ctx context.Context, name string, content io.Reader, over objects.Version) (objects.Info, error) {
	return s.Store.Create(ctx, name, &weighedReader{in: content, store: s}, over)
}

type weighedReader struct {
	in    io.Reader
	store *weighed
	since int
}

func (r *weighedReader) Read(b []byte) (int, error) {
	n, err := r.in.Read(b)
	if r.since += n; r.since > 800<<10 {
		r.since = 0
		r.store.weigh()
	}
	return n, err
}

// TestMemoryDoesNotDependOnTheFile has one far larger than the other, both more than a batch. It is not parallel: nothing else may be in memory.
func TestMemoryDoesNotDependOnTheFile(t *testing.T) { //nolint:paralleltest // see above
	const small, large, content = 200, 1400, 64 << 10
	items := make([]portable.Item, large)
	noise := rand.NewChaCha8([32]byte{})
	for i := range items {
		some := make([]byte, content/8) // that even an archive has to carry
		_, _ = noise.Read(some)
		items[i] = portable.Item{Title: fmt.Sprint("item ", i), Content: hex.EncodeToString(some) + strings.Repeat(" ", content*3/4) + "x", Tags: []string{"a", "b"}}
	}
	for _, format := range []string{transfer.NDJSON, transfer.Markdown} {
		w := newWorld(t, objectstest.Folder(t))
		collections := map[int]string{}
		for _, n := range []int{small, large} {
			c := w.owned(t)
			collections[n] = transfer.ImportFolder(c)
			w.put(t, collections[n]+"file"+transfer.Extension(format), fileOf(t, format, items[:n]))
		}
		store := &weighed{Store: w.store}
		w.start(t, store)
		peaks := map[string][]uint64{}
		for _, n := range []int{small, small, large} { // what is made once, such as connections and plans, is there when it counts
			c := w.owned(t)
			w.Exec(t, "UPDATE users SET is_admin = true")
			for _, kind := range []string{tasks.TypeImport, tasks.TypeExport} {
				parameters := map[string]any{"format": format}
				if kind == tasks.TypeImport {
					parameters["path"] = collections[n] + "file" + transfer.Extension(format)
				}
				runtime.GC()
				store.peak = 0
				row, _ := w.runs(t, kind, c, parameters)
				require.Equal(t, "SUCCEEDED", row.State, row.Error)
				peaks[kind] = append(peaks[kind], store.peak)
			}
			require.Equal(t, n, w.live(t, c))
		}
		for kind, peak := range peaks {
			t.Logf("%s %s: %d KiB alive at most with %d items, %d KiB with %d", kind, format, peak[1]>>10, small, peak[2]>>10, large)
			require.Positive(t, peak[1])
			const buffers = 58 << 20 // those of connections, which grow with a batch; of blocks of an archive; what was not collected yet
			require.Less(t, peak[2], peak[1]+buffers, "%s %s", kind, format)
			require.Greater(t, (large-small)*content, buffers*5/4, "else nobody would notice")
		}
	}
}
