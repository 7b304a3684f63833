package main

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLimitMemory(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	t.Setenv("GOMEMLIMIT", "")
	file := filepath.Join(t.TempDir(), "memory.max")
	for content, want := range map[string]int64{"max\n": math.MaxInt64, "9223372036854771712\n": math.MaxInt64, "268435456\n": 268435456 / 5 * 4} {
		debug.SetMemoryLimit(math.MaxInt64)
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		limitMemory([]string{filepath.Join(t.TempDir(), "none"), file})
		require.Equal(t, want, debug.SetMemoryLimit(-1), content)
	}
}
