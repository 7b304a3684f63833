package process

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Run runs a command in the foreground, such as a download or a build. It has a group of its own, which is killed when the
// command's context ends and, on Linux, its leader also when this process is killed: a build must not go on unseen.
func Run(cmd *exec.Cmd) error {
	attr := syscall.SysProcAttr{}
	if cmd.SysProcAttr != nil {
		attr = *cmd.SysProcAttr
	}
	attr.Setpgid = true
	endWithParent(&attr)
	cmd.SysProcAttr = &attr
	if cmd.Cancel != nil { // it may only be set on a command that has a context
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	}
	result := make(chan error)
	go func() {
		// The kernel ends the child with the thread that started it, so the thread is kept.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		result <- cmd.Run()
	}()
	return <-result
}
