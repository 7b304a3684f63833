package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// identify returns what tells the process with this pid from any other that ever had it: the boot it runs in and its
// start time in clock ticks since then (field 22 of its stat file). A zombie is an error, as is a pid that doesn't exist.
func identify(pid int) (string, error) {
	data, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return "", fmt.Errorf("identify pid %d: %w", pid, err)
	}
	// The second field is the program's name in parentheses and may itself hold spaces and parentheses.
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return "", fmt.Errorf("identify pid %d: unexpected stat", pid)
	}
	fields := strings.Fields(string(data[end+1:]))
	if len(fields) < 20 {
		return "", fmt.Errorf("identify pid %d: unexpected stat", pid)
	}
	if state := fields[0]; state == "Z" || state == "X" {
		return "", fmt.Errorf("identify pid %d: it has ended", pid)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("identify boot: %w", err)
	}
	return strings.TrimSpace(string(boot)) + "/" + fields[19], nil
}

// marked returns the pids of living processes whose environment holds the token.
func marked(token string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err == nil && hasToken(pid, token) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func hasToken(pid int, token string) bool {
	if token == "" {
		return false
	}
	env, err := os.ReadFile(procPath(pid, "environ"))
	return err == nil && bytes.Contains(append([]byte{0}, env...), []byte("\x00"+MarkEnv+"="+token+"\x00"))
}

// Memory returns the resident memory in bytes of the process and its children, shared pages counted once.
func (p *Process) Memory() int64 {
	var total int64
	pids := marked(p.Token)
	for _, pid := range pids {
		total += pss(pid)
	}
	return total
}

func pss(pid int) int64 {
	data, err := os.ReadFile(procPath(pid, "smaps_rollup"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib * 1024
		}
	}
	return 0
}
