package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// readyTimeout bounds a start, with room for the recovery after a crash.
const readyTimeout = 60 * time.Second

// stopTimeout bounds a clean stop; after it the server is ended the hard way.
const stopTimeout = 15 * time.Second

// Server is a running server that this process owns: on Linux it ends when this process does, however that happens.
type Server struct {
	url    string
	port   int
	cmd    *exec.Cmd
	exited chan struct{}
	lock   *os.File
}

// Start starts the server of a data folder and waits until it answers. A folder that another process uses is an error.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	lock, err := lockFolder(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	s, err := start(ctx, cfg)
	if err != nil {
		lock.Close()
		return nil, err
	}
	s.lock = lock
	return s, nil
}

func start(ctx context.Context, cfg Config) (*Server, error) {
	prepared, err := Prepare(ctx, cfg)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(cfg.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	from, _ := log.Seek(0, io.SeekEnd)
	s := &Server{url: prepared.URL, port: prepared.Port, exited: make(chan struct{})}
	s.cmd = exec.Command(prepared.Path, prepared.Args...)
	s.cmd.Env, s.cmd.Dir = prepared.Env, prepared.Dir
	s.cmd.Stdout, s.cmd.Stderr = log, log
	// A group of its own: Ctrl-C must reach the owner first, which stops its clients and then the server.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: prepared.Credential, Setpgid: true}
	endWithParent(s.cmd.SysProcAttr)
	if err := s.run(); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	readyCtx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := prepared.WaitReady(readyCtx, s.exited); err != nil {
		stopErr := s.Stop(context.WithoutCancel(ctx))
		return nil, errors.Join(fmt.Errorf("%w; its log:\n%s", err, readFrom(cfg.LogFile, from)), stopErr)
	}
	return s, nil
}

// run starts the process and waits for it in a goroutine that keeps its thread: the kernel ends the child with the
// thread that started it, not with the process, and Go may otherwise end that thread at any time.
func (s *Server) run() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := s.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	return <-started
}

// URL reaches the database, with the password: don't log it.
func (s *Server) URL() string { return s.url }

// Port is the port on 127.0.0.1.
func (s *Server) Port() int { return s.port }

// Done is closed when the server has ended, by Stop or by itself.
func (s *Server) Done() <-chan struct{} { return s.exited }

// Stop shuts the server down cleanly and waits for it. When ctx ends or it takes too long, the server is ended the hard
// way; the next start recovers. Stop may be called again.
func (s *Server) Stop(ctx context.Context) error {
	if s.lock != nil {
		defer s.lock.Close()
	}
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{StopSignal, stopTimeout}, {syscall.SIGQUIT, 5 * time.Second}, {syscall.SIGKILL, 5 * time.Second}} {
		if err := s.cmd.Process.Signal(step.signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop PostgreSQL: %w", err)
		}
		timeout := time.NewTimer(step.wait)
		select {
		case <-s.exited:
			timeout.Stop()
			return nil
		case <-ctx.Done():
			ctx = context.WithoutCancel(ctx)
			timeout.Stop()
		case <-timeout.C:
		}
	}
	return errors.New("stop PostgreSQL: it doesn't end")
}

// lockFolder keeps a second owner out; the kernel drops the lock when this process dies.
func lockFolder(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create data folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("data folder %s is in use by another process: %w", dir, err)
	}
	return f, nil
}

// readFrom returns what a log got since the start.
func readFrom(path string, offset int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	content, _ := io.ReadAll(io.NewSectionReader(f, offset, 16<<10))
	return strings.TrimSpace(string(content))
}
