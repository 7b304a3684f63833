package main

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// limitFiles say how much memory a container may have, under cgroups version 2 and 1.
var limitFiles = []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}

// limitMemory has garbage collected in time for the container's limit, of which it leaves a fifth for what is not Go's heap. Without a limit, or with GOMEMLIMIT set,
// it does nothing.
func limitMemory(files []string) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		limit, err := strconv.ParseInt(strings.TrimSpace(string(content)), 10, 64)
		if err == nil && limit > 0 && limit < 1<<50 { // version 1 has a huge number where there is no limit
			debug.SetMemoryLimit(limit / 5 * 4)
			return
		}
	}
}
