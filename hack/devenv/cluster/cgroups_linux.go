package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroupDirs returns the group of this name in each hierarchy: one in version 2, one for each controller in version 1.
func cgroupDirs(root, name string) []string {
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		return []string{filepath.Join(root, name)}
	}
	hierarchies, _ := os.ReadDir(root)
	var dirs []string
	for _, h := range hierarchies {
		if h.IsDir() { // cpu and cpuacct are often links to cpu,cpuacct
			dirs = append(dirs, filepath.Join(root, h.Name(), name))
		}
	}
	return dirs
}

func createCgroups(name string) error {
	enableControllers(cgroupRoot)
	for _, dir := range cgroupDirs(cgroupRoot, name) {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("create the node's control group: %w", err)
		}
	}
	return nil
}

// enableControllers offers every controller to the groups of a version 2 hierarchy: kubelet wants each of them in its own group. Version 1
// has no such file, and a controller that can't be had is left to kubelet to complain about.
func enableControllers(root string) {
	all, _ := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	for _, c := range strings.Fields(string(all)) {
		_ = os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+"+c), 0)
	}
}

// removeCgroups removes the groups and those below. Groups stay busy for a moment after their last process was killed.
func removeCgroups(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var last error
	err := poll(ctx, 20*time.Millisecond, func() (bool, error) {
		last = nil
		for _, dir := range cgroupDirs(cgroupRoot, name) {
			if err := removeTree(dir); err != nil {
				last = err
			}
		}
		return last == nil, nil
	})
	return errors.Join(err, last)
}

// removeTree removes a group from the leaves up. Its files can't be removed and need not be.
func removeTree(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, d := range slices.Backward(dirs) {
		if err := syscall.Rmdir(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", d, err)
		}
	}
	return nil
}
