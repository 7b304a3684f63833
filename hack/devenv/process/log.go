package process

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// maxLog is the size in bytes from which a log is set aside at the next start.
const maxLog = 16 << 20

// LogPath returns the log file of a process.
func (s *State) LogPath(name string) string { return s.Path("log", name+".log") }

// Log returns the process's log file.
func (p *Process) Log() string { return p.state.LogPath(p.Name) }

// Tail returns the last lines of a file, for error messages; empty when it can't be read.
func Tail(path string, lines int) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	const window = 64 << 10
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, size-window), io.SeekStart)
	}
	data, _ := io.ReadAll(f)
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// WithLog adds the last lines of a process's log to an error.
func (s *State) WithLog(name string, err error) error {
	if err == nil {
		return nil
	}
	if tail := Tail(s.LogPath(name), 15); tail != "" {
		return fmt.Errorf("%w; the end of %s:\n%s", err, s.LogPath(name), tail)
	}
	return err
}
