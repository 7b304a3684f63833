package cluster

import (
	"context"
	"fmt"
	"net"
	"os"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// firstListener is the descriptor of the first listener that a forwarder inherits. The starter binds them, so that a forwarder accepts
// from its first moment on, and so that no port is lost between choosing and binding it.
const firstListener = 3

// runForwarder passes connections from each listener on to the target of the same position, until ctx or the node ends. With inside, the
// connections are opened in the node's network, else in this process's own.
func runForwarder(ctx context.Context, node int, inside bool, listeners []net.Listener, targets []string) error {
	defer closeAll(listeners)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dial := func(ctx context.Context, addr string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp4", addr)
	}
	if node != 0 {
		ended, err := watch(node)
		if err != nil {
			return err
		}
		go func() { // its last reference to the node's network goes with this process
			<-ended
			cancel()
		}()
		ns, err := openNetns(node)
		if err != nil {
			return err
		}
		defer ns.close()
		if inside {
			dial = ns.dial
		}
	}
	all, ctx := errgroup.WithContext(ctx)
	for i, target := range targets {
		all.Go(func() error {
			return relay(ctx, listeners[i], func(ctx context.Context) (net.Conn, error) { return dial(ctx, target) })
		})
	}
	return all.Wait()
}

// inherited takes over n listeners from the process that started this one.
func inherited(n int) ([]net.Listener, error) {
	listeners := make([]net.Listener, 0, n)
	for fd := firstListener; fd < firstListener+n; fd++ {
		f := os.NewFile(uintptr(fd), "listener")
		l, err := net.FileListener(f)
		f.Close() // the listener has a copy
		if err != nil {
			return nil, fmt.Errorf("listener at descriptor %d: %w", fd, err)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

// watch returns a channel that is closed when the process ends. A descriptor of the process stays true when the pid is used again.
func watch(pid int) (<-chan struct{}, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("watch the node (pid %d): %w", pid, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer func() { _ = unix.Close(fd) }()
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if n > 0 || (err != nil && err != unix.EINTR) {
				return
			}
		}
	}()
	return ended, nil
}
