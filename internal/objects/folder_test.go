package objects_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/objects/objectstest"
)

// TestForeignFolders: what a volume has of its own is left alone, though most of it could not be read.
func TestForeignFolders(t *testing.T) {
	t.Parallel()
	at := objectstest.Folder(t)
	folder := filepath.FromSlash(strings.TrimPrefix(at, "file://"))
	foreign := filepath.Join(folder, "lost+found", ".unfinished-x")
	require.NoError(t, os.Mkdir(filepath.Dir(foreign), 0o700))
	require.NoError(t, os.WriteFile(foreign, []byte("x"), 0o600))
	store := objectstest.Open(t, at)
	_, err := store.Create(t.Context(), "a/b", strings.NewReader("x"), objects.AnyVersion)
	require.NoError(t, err)
	require.Len(t, list(t, store, ""), 1)
	dropped, err := store.DropUnfinished(t.Context(), time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.Zero(t, dropped)
	require.FileExists(t, foreign)
}
