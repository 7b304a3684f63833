package cluster

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCgroupDirs(t *testing.T) {
	t.Parallel()
	v1 := t.TempDir()
	for _, h := range []string{"cpu,cpuacct", "memory"} {
		require.NoError(t, os.Mkdir(filepath.Join(v1, h), 0o700))
	}
	require.NoError(t, os.Symlink("cpu,cpuacct", filepath.Join(v1, "cpu")))
	require.Equal(t, []string{filepath.Join(v1, "cpu,cpuacct", "x"), filepath.Join(v1, "memory", "x")}, cgroupDirs(v1, "x"))

	v2 := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(v2, "cgroup.controllers"), []byte("cpu memory\n"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(v2, "system.slice"), 0o700))
	require.Equal(t, []string{filepath.Join(v2, "x")}, cgroupDirs(v2, "x"))
}

func TestRemoveTree(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "x")
	require.NoError(t, os.MkdirAll(filepath.Join(root, "kubepods", "besteffort"), 0o700))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "kubepods", "burstable"), 0o700))
	require.NoError(t, removeTree(root))
	require.NoDirExists(t, root)
	require.NoError(t, removeTree(root), "nothing to remove is no error")
}
