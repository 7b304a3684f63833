package pgserver

import (
	"os"
	"path/filepath"
	"strconv"
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
		exe, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil || filepath.Base(exe) != "postgres" {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			pids[pid] = true
		}
	}
	return sortedPIDs(pids)
}
