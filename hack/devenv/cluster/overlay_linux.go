package cluster

import (
	"fmt"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// tryOverlay mounts an overlay on the folders below dir, in a mount namespace of its own thread, which ends with it.
func tryOverlay(dir string) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			done <- fmt.Errorf("leave the mount namespace: %w", err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			done <- err
			return
		}
		at := func(name string) string { return filepath.Join(dir, name) }
		err := unix.Mount("overlay", at("merged"), "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", at("lower"), at("upper"), at("work")))
		if err == nil {
			err = unix.Unmount(at("merged"), unix.MNT_DETACH)
		}
		done <- err
	}()
	return <-done
}
