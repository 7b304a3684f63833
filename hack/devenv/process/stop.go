package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

const defaultGrace = 10 * time.Second

// Stop ends the process of this name and everything it left running, and forgets it. It signals only what this state
// started: a pid whose start time differs is left alone. Stopping what doesn't run is no error.
func (s *State) Stop(ctx context.Context, name string) error {
	p, err := s.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.Stop(ctx)
}

// StopAll stops every process of the state, at the same time.
func (s *State) StopAll(ctx context.Context) error {
	procs, err := s.List()
	if err != nil {
		return err
	}
	results := make(chan error, len(procs))
	for _, p := range procs {
		go func() { results <- p.Stop(ctx) }()
	}
	var errs []error
	for range procs {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

// Stop asks the process to end, kills its group when it doesn't within the grace time, and removes its record.
// When ctx ends first, the process is killed at once.
func (p *Process) Stop(ctx context.Context) error {
	sig := p.StopSignal
	if sig == 0 {
		sig = syscall.SIGTERM
	}
	grace := p.StopGrace
	if grace == 0 {
		grace = defaultGrace
	}
	if p.Alive() {
		p.signal(sig)
		ctx, cancel := context.WithTimeout(ctx, grace)
		ended := p.waitGone(ctx)
		cancel()
		if !ended && p.Alive() {
			p.signal(syscall.SIGKILL)
		}
	}
	p.killMarked()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if !p.waitGone(last) {
		return fmt.Errorf("stop %s: pid %d doesn't end", p.Name, p.PID)
	}
	if err := os.Remove(p.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("stop %s: %w", p.Name, err)
	}
	return nil
}

// signal goes to the whole group, which is the process's own when it leads one.
func (p *Process) signal(sig syscall.Signal) {
	if pgid, err := syscall.Getpgid(p.PID); err == nil && pgid == p.PID {
		_ = syscall.Kill(-p.PID, sig)
		return
	}
	_ = syscall.Kill(p.PID, sig)
}

func (p *Process) waitGone(ctx context.Context) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for p.Alive() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// killMarked kills what carries the process's token and still runs: children that outlived it, in whatever group.
func (p *Process) killMarked() {
	for _, pid := range marked(p.Token) {
		if pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
