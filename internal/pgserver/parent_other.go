//go:build !linux

package pgserver

import "syscall"

// endWithParent does nothing where the kernel has no such signal: the next start ends what was left.
func endWithParent(*syscall.SysProcAttr) {}
