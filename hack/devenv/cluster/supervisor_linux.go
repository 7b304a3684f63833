package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// restartAfter is the pause before a component that ended starts again.
const restartAfter = time.Second

// supervisor starts processes and reaps every child of this process, adopted ones too. os/exec can't be used beside it: it would wait for
// children that the supervisor has reaped already.
type supervisor struct {
	logs string

	mu    sync.Mutex
	ended map[int]chan syscall.WaitStatus
}

func newSupervisor(logs string) *supervisor {
	s := &supervisor{logs: logs, ended: map[int]chan syscall.WaitStatus{}}
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	go s.reap(died) // for the rest of the process's life
	return s
}

// keep runs a component until ctx ends, again and again.
func (s *supervisor) keep(ctx context.Context, c component) {
	go func() {
		for ctx.Err() == nil {
			status, err := s.run(c)
			slog.WarnContext(ctx, "component ended, starting it again", "component", c.name, "status", status, "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(restartAfter):
			}
		}
	}()
}

// run starts a component and waits for its end.
func (s *supervisor) run(c component) (syscall.WaitStatus, error) {
	path, err := exec.LookPath(c.argv[0])
	if err != nil {
		return 0, err
	}
	log, err := os.OpenFile(filepath.Join(s.logs, c.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	ended, err := s.start(path, c.argv, []uintptr{null.Fd(), log.Fd(), log.Fd()})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", c.name, err)
	}
	return <-ended, nil
}

// start holds the lock until the new pid is known, so that reap can't meet a pid that nobody has asked for yet.
func (s *supervisor) start(path string, argv []string, files []uintptr) (<-chan syscall.WaitStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pid, err := syscall.ForkExec(path, argv, &syscall.ProcAttr{Env: os.Environ(), Files: files, Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return nil, err
	}
	ended := make(chan syscall.WaitStatus, 1)
	s.ended[pid] = ended
	return ended, nil
}

func (s *supervisor) reap(died <-chan os.Signal) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil: // no child at all
			<-died
			continue
		}
		s.mu.Lock()
		ended, ours := s.ended[pid]
		delete(s.ended, pid)
		s.mu.Unlock()
		if ours {
			ended <- status
		}
	}
}
