package pgserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// endOrphans ends the processes of a server that still run in the data folder although nobody owns it: its owner was killed,
// or the server was, and its children are about to notice. It also removes a pid file whose pid now belongs to
// something else, as happens after a reboot; PostgreSQL itself would refuse to start.
func endOrphans(ctx context.Context, data string) error {
	pidFile := filepath.Join(data, "postmaster.pid")
	main := 0
	if content, err := os.ReadFile(pidFile); err == nil {
		first, _, _ := strings.Cut(string(content), "\n")
		main, _ = strconv.Atoi(strings.TrimSpace(first))
	}
	for _, sig := range []syscall.Signal{StopSignal, syscall.SIGQUIT, syscall.SIGKILL} {
		running := serverProcesses(data, main)
		if len(running) == 0 {
			break
		}
		for _, pid := range running {
			// Until the last resort only the main process is told: the others follow it.
			if pid == main || sig == syscall.SIGKILL {
				_ = syscall.Kill(pid, sig)
			}
		}
		if err := waitNone(ctx, data, main, 5*time.Second); err != nil {
			return err
		}
	}
	if running := serverProcesses(data, main); len(running) > 0 {
		return fmt.Errorf("a PostgreSQL server still runs in %s (pid %d)", data, running[0])
	}
	if main != 0 && syscall.Kill(main, 0) == nil {
		if err := os.Remove(pidFile); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("remove stale pid file: %w", err)
		}
	}
	return nil
}

func waitNone(ctx context.Context, data string, main int, limit time.Duration) error {
	timeout := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(serverProcesses(data, main)) > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout:
			return nil
		case <-tick.C:
		}
	}
	return nil
}

func sortedPIDs(pids map[int]bool) []int {
	out := make([]int, 0, len(pids))
	for pid := range pids {
		out = append(out, pid)
	}
	slices.Sort(out)
	return out
}
