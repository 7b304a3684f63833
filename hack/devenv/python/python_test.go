package python

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/hack/devenv/process"
)

// fakePython puts a python3 first in PATH that prints what the real one would.
func fakePython(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "python3"), []byte("#!/bin/sh\n"+script), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv(process.CacheEnv, t.TempDir())
}

func TestAnOldPythonIsNamed(t *testing.T) {
	fakePython(t, "echo 3.9.2 False")
	_, err := Install(t.Context(), nil, os.DevNull, "program")
	require.ErrorContains(t, err, "is Python 3.9.2, too old: put 3.11 or newer first in PATH")
}

func TestAnInstallationIsUsedAgainOnceItIsComplete(t *testing.T) {
	// venv makes an environment whose pip installs the program, the second time only.
	fakePython(t, `
case "$*" in
*version_info*) echo 3.12.1 True ;;
"-m venv "*)
	echo made >> "$ATLAS_CACHE_DIR/made"
	mkdir -p "$3/bin"
	printf '#!/bin/sh\n[ $(wc -l < "$ATLAS_CACHE_DIR/made") = 2 ] || { echo no network; exit 1; }\n: > "%s/bin/program"\n' "$3" > "$3/bin/python"
	chmod +x "$3/bin/python" ;;
esac`)
	_, err := Install(t.Context(), nil, os.DevNull, "program")
	require.ErrorContains(t, err, "no network")
	for range 2 {
		program, err := Install(t.Context(), nil, os.DevNull, "program")
		require.NoError(t, err)
		require.FileExists(t, program)
	}
	made, err := os.ReadFile(filepath.Join(process.Cache(), "made"))
	require.NoError(t, err)
	require.Equal(t, "made\nmade\n", string(made))
}
