package main

import (
	"os"
	"runtime/debug"
)

const (
	gcPercent   = 400
	memoryLimit = 112 << 20
)

// tuneMemory makes the API collect garbage a fourth as often as Go would, while it is small: its requests leave much garbage and little else. Near
// the limit it collects as often as it has to. docs/benchmarks.md has what this gains. GOGC and GOMEMLIMIT, when set, have their usual meaning.
func tuneMemory() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
}
