package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Lock takes the state's file lock and waits for it while ctx lasts. The kernel drops it when the holder dies, so it can't
// become stale. The file is beside the state's folder, not in it, because `down` removes the folder under the lock.
func (s *State) Lock(ctx context.Context) (unlock func(), err error) {
	return LockFile(ctx, s.Dir+".lock")
}

// LockFile takes an exclusive lock on path, creating it and its folder. Unlocking removes the file again.
func LockFile(ctx context.Context, path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		unlock, err := tryLock(path)
		if !errors.Is(err, errHeld) {
			return unlock, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("another devenv command holds %s: %w", path, ctx.Err())
		case <-tick.C:
		}
	}
}

var errHeld = errors.New("the lock is held by someone else")

func tryLock(path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errHeld
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// The former holder removes the file before it lets go; a lock on a removed file excludes nobody.
	held, err1 := f.Stat()
	named, err2 := os.Stat(path)
	if err1 != nil || err2 != nil || !os.SameFile(held, named) {
		f.Close()
		return nil, errHeld
	}
	return func() {
		_ = os.Remove(path)
		_ = f.Close()
	}, nil
}
