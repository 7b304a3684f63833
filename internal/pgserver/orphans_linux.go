package pgserver

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// serverProcesses returns the pids of the postgres processes that work in the data folder: each has it as its
// working directory.
func serverProcesses(data string, _ int) []int {
	if real, err := filepath.EvalSymlinks(data); err == nil {
		data = real
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	pids := map[int]bool{}
	for _, dir := range dirs {
		cwd, err := os.Readlink(filepath.Join(dir, "cwd"))
		if err != nil || cwd != data {
			continue
		}
		// Not the link to its program: that is gone already while an ending process still holds the shared memory.
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil || strings.TrimSpace(string(name)) != "postgres" {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			pids[pid] = true
		}
	}
	return sortedPIDs(pids)
}
