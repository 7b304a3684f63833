package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// netns is the network namespace of a process. Sockets made in it stay in it, whoever uses them later.
type netns struct{ file *os.File }

func openNetns(pid int) (*netns, error) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open the node's network: %w", err)
	}
	return &netns{file: f}, nil
}

func (n *netns) close() { _ = n.file.Close() }

// run calls fn on a thread of its own inside the namespace. The thread ends with the goroutine, because it is never unlocked: no other
// goroutine can find itself in the wrong network.
func (n *netns) run(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the node's network: %w", err)
			return
		}
		done <- fn()
	}()
	return <-done
}

func (n *netns) listen(ctx context.Context, addr string) (l net.Listener, err error) {
	err = n.run(func() error {
		var lc net.ListenConfig
		l, err = lc.Listen(ctx, "tcp4", addr)
		return err
	})
	return l, err
}

// dial wants an IP address: a name would be looked up on other threads, outside the namespace.
func (n *netns) dial(ctx context.Context, addr string) (c net.Conn, err error) {
	err = n.run(func() error {
		var d net.Dialer
		c, err = d.DialContext(ctx, "tcp4", addr)
		return err
	})
	return c, err
}
