//go:build !linux

package process

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// identify returns the start time that ps reports: together with the pid it tells one process from another.
func identify(pid int) (string, error) {
	out, err := exec.Command("ps", "-o", "stat=,lstart=", "-p", pidString(pid)).Output()
	if err != nil {
		return "", fmt.Errorf("identify pid %d: %w", pid, err)
	}
	state, started, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if state == "" || strings.HasPrefix(state, "Z") {
		return "", fmt.Errorf("identify pid %d: it has ended", pid)
	}
	return strings.TrimSpace(started), nil
}

// marked finds processes by their environment, which ps shows for one's own.
func marked(token string) []int {
	if token == "" {
		return nil
	}
	out, err := exec.Command("ps", "-axEww", "-o", "pid=,command=").Output()
	if err != nil {
		return nil
	}
	var pids []int
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, MarkEnv+"="+token) {
			continue
		}
		if pid, err := strconv.Atoi(strings.Fields(line)[0]); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func hasToken(pid int, token string) bool {
	for _, p := range marked(token) {
		if p == pid {
			return true
		}
	}
	return false
}

// Memory returns the resident memory of the process in bytes.
func (p *Process) Memory() int64 {
	out, err := exec.Command("ps", "-o", "rss=", "-p", pidString(p.PID)).Output()
	if err != nil {
		return 0
	}
	kib, _ := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	return kib * 1024
}
