//go:build !linux

package pgserver

import (
	"os/exec"
	"strconv"
	"strings"
)

// serverProcesses returns the pid of the main process when its command line names the data folder.
func serverProcesses(data string, main int) []int {
	if main == 0 {
		return nil
	}
	out, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(main)).Output()
	if err != nil || !strings.Contains(string(out), data) {
		return nil
	}
	return sortedPIDs(map[int]bool{main: true})
}
