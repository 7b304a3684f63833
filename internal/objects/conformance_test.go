package objects_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/objects/objectstest"
)

// stores are the adapters, each of which passes every test here.
var stores = map[string]func(testing.TB) string{"folder": objectstest.Folder, "s3": objectstest.S3}

func eachStore(t *testing.T, test func(t *testing.T, store objects.Store)) {
	t.Helper()
	for name, at := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, objectstest.Open(t, at(t)))
		})
	}
}

// noise is content that no part of equals another.
func noise(n int) []byte {
	content := make([]byte, n)
	source := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = source.Read(content)
	return content
}

// stream hides from its reader what it is made of.
type stream struct{ io.Reader }

func create(t *testing.T, store objects.Store, name string, content []byte) objects.Info {
	t.Helper()
	info, err := store.Create(t.Context(), name, stream{bytes.NewReader(content)}, objects.AnyVersion)
	require.NoError(t, err)
	return info
}

func read(t *testing.T, store objects.Store, name string, r objects.Range) ([]byte, objects.Info) {
	t.Helper()
	in, info, err := store.Open(t.Context(), name, r)
	require.NoError(t, err)
	defer in.Close()
	content, err := io.ReadAll(in)
	require.NoError(t, err)
	return content, info
}

func list(t *testing.T, store objects.Store, folder string) (names []string) {
	t.Helper()
	for info, err := range store.List(t.Context(), folder) {
		require.NoError(t, err)
		names = append(names, info.Name)
	}
	slices.Sort(names)
	return names
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store objects.Store) {
		for _, size := range []int{0, 1, 100_000, 16 << 20, 16<<20 + 1, 33 << 20} { // one part, several, and their borders
			name, content, before := fmt.Sprintf("a/b/%d.bin", size), noise(size), time.Now().Add(-2*time.Second)
			info := create(t, store, name, content)
			require.Equal(t, name, info.Name)
			require.EqualValues(t, size, info.Size)
			require.NotEmpty(t, info.ETag)
			require.WithinRange(t, info.Modified, before, time.Now().Add(time.Second))
			got, opened := read(t, store, name, objects.Range{ETag: info.ETag})
			require.True(t, bytes.Equal(content, got))
			require.Equal(t, info, opened)
			found, err := store.Stat(t.Context(), name)
			require.NoError(t, err)
			require.Equal(t, info, found)
		}
	})
}

func TestRanges(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store objects.Store) {
		content := noise(1000)
		create(t, store, "x", content)
		create(t, store, "empty", nil)
		for _, r := range []struct{ offset, length, from, to int64 }{
			{0, 0, 0, 1000},
			{0, 1, 0, 1},
			{0, 1000, 0, 1000},
			{0, 2000, 0, 1000},
			{1, 0, 1, 1000},
			{999, 0, 999, 1000},
			{999, 10, 999, 1000},
			{1000, 0, 0, 0},
			{1000, 10, 0, 0},
			{5000, 0, 0, 0},
			{100, 7, 100, 107},
		} {
			got, info := read(t, store, "x", objects.Range{Offset: r.offset, Length: r.length})
			require.True(t, bytes.Equal(content[r.from:r.to], got), r)
			require.EqualValues(t, 1000, info.Size, r)
		}
		for _, r := range []objects.Range{{}, {Offset: 1}, {Length: 1}} {
			got, _ := read(t, store, "empty", r)
			require.Empty(t, got)
		}
	})
}

func TestWhatIsNotThere(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store objects.Store) {
		ctx := t.Context()
		create(t, store, "a/b", []byte("x"))
		for _, name := range []string{"c", "a/c", "a", "a/b/c"} {
			_, _, err := store.Open(ctx, name, objects.Range{})
			require.ErrorIs(t, err, objects.ErrNotFound, name)
			_, _, err = store.Open(ctx, name, objects.Range{Offset: 10, Length: 1})
			require.ErrorIs(t, err, objects.ErrNotFound, name)
			_, err = store.Stat(ctx, name)
			require.ErrorIs(t, err, objects.ErrNotFound, name)
		}
		require.NoError(t, store.Delete(ctx, "c"))
		require.NoError(t, store.Delete(ctx, "a/b"))
		require.NoError(t, store.Delete(ctx, "a/b"))
		_, err := store.Stat(ctx, "a/b")
		require.ErrorIs(t, err, objects.ErrNotFound)
		require.Empty(t, list(t, store, ""))
		require.Empty(t, list(t, store, "a/"))
	})
}

func TestNamesThatAreNone(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store objects.Store) {
		ctx := t.Context()
		for _, name := range []string{
			"", ".", "..", "/", "/etc/passwd", "../x", "a/../b", "a/..", "a//b", "a/", "./a", "a/./b", ".hidden", "a/.unfinished-x", `a\b`, "a b", "a\x00b", "a\nb",
			"ä", "%2e%2e/x", "a/..%2f", "C:/x", "-x", "a?b", "a#b", strings.Repeat("a", 300), strings.Repeat("a/", 300) + "a",
		} {
			_, _, err := store.Open(ctx, name, objects.Range{})
			require.ErrorIs(t, err, objects.ErrName, "%q", name)
			_, err = store.Create(ctx, name, strings.NewReader("x"), objects.AnyVersion)
			require.ErrorIs(t, err, objects.ErrName, "%q", name)
			_, err = store.Stat(ctx, name)
			require.ErrorIs(t, err, objects.ErrName, "%q", name)
			require.ErrorIs(t, store.Delete(ctx, name), objects.ErrName, "%q", name)
		}
		for _, folder := range []string{"a", "/", "../", "a//", ".x/"} {
			for _, err := range store.List(ctx, folder) {
				require.ErrorIs(t, err, objects.ErrName, "%q", folder)
			}
		}
		require.Empty(t, list(t, store, ""))
	})
}

// TestAPartIsNeverSeen breaks creations off at every stage, in every way.
func TestAPartIsNeverSeen(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store objects.Store) {
		broken := errors.New("broken")
		for _, size := range []int{0, 10, 16 << 20, 17 << 20, 40 << 20} {
			for _, end := range []error{broken, io.ErrUnexpectedEOF, fmt.Errorf("wrapped: %w", io.EOF)} {
				_, err := store.Create(t.Context(), "new", io.MultiReader(bytes.NewReader(noise(size)), failing{end}), objects.AnyVersion)
				require.ErrorIs(t, err, end)
				_, err = store.Stat(t.Context(), "new")
				require.ErrorIs(t, err, objects.ErrNotFound)
			}
			ctx, cancel := context.WithCancel(t.Context())
			_, err := store.Create(ctx, "new", io.MultiReader(bytes.NewReader(noise(size)), after{cancel}, bytes.NewReader(noise(20<<20))), objects.AnyVersion)
			require.ErrorIs(t, err, context.Canceled)
		}
		require.Empty(t, list(t, store, ""))

		old := create(t, store, "old", []byte("as it was"))
		_, err := store.Create(t.Context(), "old", io.MultiReader(bytes.NewReader(noise(20<<20)), failing{broken}), objects.AnyVersion)
		require.ErrorIs(t, err, broken)
		got, info := read(t, store, "old", objects.Range{})
		require.Equal(t, "as it was", string(got))
		require.Equal(t, old, info)
		dropped, err := store.DropUnfinished(t.Context(), time.Now().Add(time.Hour))
		require.NoError(t, err)
		require.Zero(t, dropped, "each was tidied at once")
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// after calls something when everything before it was read.
type after struct{ call func() }

func (a after) Read([]byte) (int, error) { a.call(); return 0, io.EOF }

// TestWhileItIsWritten looks at a store from elsewhere while an object is made, and tidies what a dead process would leave.
func TestWhileItIsWritten(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store objects.Store) {
		in, out := io.Pipe()
		created := make(chan error, 1)
		go func() {
			_, err := store.Create(t.Context(), "exports/one", in, objects.AnyVersion)
			created <- err
		}()
		_, err := out.Write(noise(17 << 20)) // the first part is on its way, or there
		require.NoError(t, err)
		_, err = out.Write(noise(16 << 20))
		require.NoError(t, err)
		require.Empty(t, list(t, store, ""))
		_, err = store.Stat(t.Context(), "exports/one")
		require.ErrorIs(t, err, objects.ErrNotFound)
		dropped, err := store.DropUnfinished(t.Context(), time.Now().Add(-time.Hour))
		require.NoError(t, err)
		require.Zero(t, dropped, "it is not old")
		dropped, err = store.DropUnfinished(t.Context(), time.Now().Add(time.Hour))
		require.NoError(t, err)
		require.EqualValues(t, 1, dropped)
		_ = out.Close()
		require.Error(t, <-created, "what it had is gone")
		require.Empty(t, list(t, store, ""))
	})
}

func TestReplaced(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store objects.Store) {
		first := create(t, store, "x", []byte("first"))
		second := create(t, store, "x", []byte("other"))
		require.NotEqual(t, first.ETag, second.ETag)
		for _, r := range []objects.Range{{}, {Offset: 2}, {Offset: 2, Length: 1}, {Offset: 5}, {Offset: 50}} {
			r.ETag = first.ETag
			_, _, err := store.Open(t.Context(), "x", r)
			require.ErrorIs(t, err, objects.ErrChanged, r)
			r.ETag = second.ETag
			in, info, err := store.Open(t.Context(), "x", r)
			require.NoError(t, err)
			require.Equal(t, second, info)
			require.NoError(t, in.Close())
		}
	})
}

func TestLists(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store objects.Store) {
		var names []string
		for i := range 25 {
			names = append(names, fmt.Sprintf("exports/%02d/x-%d.zip", i%5, i), fmt.Sprintf("imports/%02d", i))
		}
		for _, name := range names {
			create(t, store, name, []byte(name))
		}
		slices.Sort(names)
		require.Equal(t, names, list(t, store, ""))
		require.Equal(t, slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasPrefix(n, "exports/") }), list(t, store, "exports/"))
		require.Len(t, list(t, store, "exports/03/"), 5)
		require.Empty(t, list(t, store, "export/"))
		require.Empty(t, list(t, store, "exports/0/"))
		require.Empty(t, list(t, store, "imports/03/"))
		for info, err := range store.List(t.Context(), "") {
			require.NoError(t, err)
			found, err := store.Stat(t.Context(), info.Name)
			require.NoError(t, err)
			require.Equal(t, found.ETag, info.ETag)
			require.Equal(t, found.Size, info.Size)
			require.WithinDuration(t, found.Modified, info.Modified, time.Second)
			break // and stop
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var last error
		for _, err := range store.List(ctx, "") {
			last = err
		}
		require.ErrorIs(t, last, context.Canceled)
	})
}

// TestAtTheSameTime creates, replaces, lists and removes by many at once: each reader sees one of the versions, whole.
func TestAtTheSameTime(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store objects.Store) {
		create(t, store, "all/of/us", bytes.Repeat([]byte{'z'}, 100_000))
		var workers sync.WaitGroup
		for w := range 6 {
			workers.Go(func() {
				for i := range 10 {
					_, err := store.Create(t.Context(), "all/of/us", bytes.NewReader(bytes.Repeat([]byte{byte('a' + w)}, 100_000)), objects.AnyVersion)
					if !noError(t, err) {
						return
					}
					in, _, err := store.Open(t.Context(), "all/of/us", objects.Range{})
					if !noError(t, err) {
						return
					}
					content, err := io.ReadAll(in)
					_ = in.Close()
					if !noError(t, err) || len(content) != 100_000 || bytes.Count(content, content[:1]) != len(content) {
						t.Errorf("%d bytes of several versions", len(content))
						return
					}
					own := fmt.Sprintf("own-%d-%d", i%2, w)
					_, err = store.Create(t.Context(), own, strings.NewReader("x"), objects.AnyVersion)
					if !noError(t, err) || !noError(t, store.Delete(t.Context(), own)) {
						return
					}
				}
			})
		}
		workers.Wait()
		require.Equal(t, []string{"all/of/us"}, list(t, store, ""))
	})
}

// TestVersions: an object is made over the version that was asked for or not at all.
func TestVersions(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store objects.Store) {
		for _, size := range []int{10, 17 << 20} { // one part, and two
			over := func(version objects.Version, content []byte) (objects.Version, error) {
				info, err := store.Create(t.Context(), "a/b", bytes.NewReader(content), version)
				return objects.Version(info.ETag), err
			}
			_, err := over("0123", noise(size))
			require.ErrorIs(t, err, objects.ErrChanged, "there is none")
			first, err := over(objects.NoVersion, noise(size))
			require.NoError(t, err)
			_, err = over(objects.NoVersion, noise(size+1))
			require.ErrorIs(t, err, objects.ErrChanged)
			second, err := over(first, noise(size+2))
			require.NoError(t, err)
			_, err = over(first, noise(size+3))
			require.ErrorIs(t, err, objects.ErrChanged)
			content, info := read(t, store, "a/b", objects.Range{})
			require.True(t, bytes.Equal(noise(size+2), content))
			require.Equal(t, string(second), info.ETag)
			require.NoError(t, store.Delete(t.Context(), "a/b"))
			_, err = over(second, noise(size))
			require.ErrorIs(t, err, objects.ErrChanged)
			require.Empty(t, list(t, store, ""))
		}
	})
}

// TestOneReplacesAVersion of many that want to.
func TestOneReplacesAVersion(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store objects.Store) {
		version := objects.NoVersion
		for round := range 10 {
			var workers sync.WaitGroup
			var replaced atomic.Int32
			for w := range 8 {
				workers.Go(func() {
					_, err := store.Create(t.Context(), "one", strings.NewReader(fmt.Sprint(round, w)), version)
					if err == nil {
						replaced.Add(1)
					} else if !errors.Is(err, objects.ErrChanged) {
						t.Error(err)
					}
				})
			}
			workers.Wait()
			require.EqualValues(t, 1, replaced.Load())
			info, err := store.Stat(t.Context(), "one")
			require.NoError(t, err)
			version = objects.Version(info.ETag)
		}
	})
}

// TestFoldersComeAndGo has each file alone in a folder that the others make and remove.
func TestFoldersComeAndGo(t *testing.T) {
	t.Parallel()
	store := objectstest.Open(t, objectstest.Folder(t))
	var workers sync.WaitGroup
	for w := range 6 {
		workers.Go(func() {
			for i := range 20 {
				name := fmt.Sprintf("a/%d/%d", i%2, w)
				if _, err := store.Create(t.Context(), name, strings.NewReader("x"), objects.AnyVersion); !noError(t, err) || !noError(t, store.Delete(t.Context(), name)) {
					return
				}
			}
		})
	}
	workers.Wait()
	require.Empty(t, list(t, store, ""))
}

func noError(t *testing.T, err error) bool {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
	return err == nil
}
