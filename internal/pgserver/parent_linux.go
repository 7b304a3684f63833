package pgserver

import "syscall"

// endWithParent makes the kernel shut the server down cleanly when its owner dies.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = StopSignal }
