package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"
)

const pidSuffix = ".pid.json"

// Process is a background process that this state started.
type Process struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
	// Identity tells this process from a later one with the same pid: boot and start time.
	Identity   string         `json:"identity"`
	Token      string         `json:"token"`
	Address    string         `json:"address,omitempty"`
	StartedAt  time.Time      `json:"startedAt"`
	StopSignal syscall.Signal `json:"stopSignal,omitempty"`
	StopGrace  time.Duration  `json:"stopGrace,omitempty"`

	state  *State
	exited chan struct{} // closed when it ended; nil when another command started it
}

// Find returns the process of this name when it is alive. A record of a dead one, or of a pid that now belongs to
// something else, is removed, and so is what the dead one left running.
func (s *State) Find(name string) (*Process, bool) {
	p, err := s.read(name)
	if err != nil {
		return nil, false
	}
	if p.Alive() {
		return p, true
	}
	p.killMarked()
	_ = os.Remove(p.path())
	return nil, false
}

// List returns every recorded process, alive or not, by name.
func (s *State) List() ([]*Process, error) {
	files, err := filepath.Glob(s.Path("*" + pidSuffix))
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var procs []*Process
	for _, file := range files {
		p, err := s.read(strings.TrimSuffix(filepath.Base(file), pidSuffix))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		procs = append(procs, p)
	}
	sort.Slice(procs, func(i, j int) bool { return procs[i].Name < procs[j].Name })
	return procs, nil
}

func (s *State) read(name string) (*Process, error) {
	path := s.Path(name + pidSuffix)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read process %s: %w", name, err)
	}
	p := &Process{state: s}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, fmt.Errorf("read process %s: %w", path, err)
	}
	return p, nil
}

func (p *Process) path() string { return p.state.Path(p.Name + pidSuffix) }

func (p *Process) record() error {
	identity, err := identify(p.PID)
	if err != nil {
		return err
	}
	p.Identity = identity
	if err := writeJSON(p.path(), p); err != nil {
		return fmt.Errorf("record pid: %w", err)
	}
	return nil
}

// Alive says whether the process runs: its pid exists, started when we started it, and is not a zombie.
func (p *Process) Alive() bool {
	identity, err := identify(p.PID)
	return err == nil && identity == p.Identity
}

// Exited is closed when the process has ended. It is nil for a process that an earlier command started.
func (p *Process) Exited() <-chan struct{} { return p.exited }
