package cluster

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/hack/devenv/process"
)

func TestBuilderBuildsOnce(t *testing.T) {
	t.Parallel()
	checkout, err := process.Checkout()
	require.NoError(t, err)
	cache := t.TempDir()
	b, err := newBuilder(t.Context(), checkout, cache, nil)
	require.NoError(t, err)
	pause := []program{{"pause", "pause", "."}}
	require.NoError(t, b.build(t.Context(), pause))
	before, err := os.Stat(b.path("pause"))
	require.NoError(t, err)

	again, err := newBuilder(t.Context(), checkout, cache, nil)
	require.NoError(t, err)
	require.Equal(t, b.dir, again.dir, "unchanged sources have one folder")
	require.NoError(t, again.build(t.Context(), pause))
	after, err := os.Stat(again.path("pause"))
	require.NoError(t, err)
	require.True(t, os.SameFile(before, after))
	left, err := filepath.Glob(filepath.Join(b.dir, ".*"))
	require.NoError(t, err)
	require.Empty(t, left, "neither locks nor half programs stay")
}

func TestBuilderLeavesNothingOfABrokenBuild(t *testing.T) {
	t.Parallel()
	checkout, err := process.Checkout()
	require.NoError(t, err)
	b, err := newBuilder(t.Context(), checkout, t.TempDir(), nil)
	require.NoError(t, err)
	err = b.build(t.Context(), []program{{"pause", "pause", "./absent"}})
	require.ErrorContains(t, err, "./absent")
	require.NoFileExists(t, b.path("pause"))
}
