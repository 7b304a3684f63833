package cluster

import (
	"context"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// network starts a process in a network namespace of its own with a loopback, as a stand-in for a node.
func network(t *testing.T) (pid int, ns *netns, end func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making a network namespace needs root")
	}
	cmd := exec.Command("sleep", "300")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	require.NoError(t, cmd.Start())
	end = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(end)
	ns, err := openNetns(cmd.Process.Pid)
	require.NoError(t, err)
	t.Cleanup(ns.close)
	require.NoError(t, ns.run(func() error { return ip(context.Background(), "link", "set", "dev", "lo", "up") }))
	return cmd.Process.Pid, ns, end
}

func startForwarding(t *testing.T, pid int, inside bool, l net.Listener, target string) <-chan error {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	done := make(chan error, 1)
	go func() { done <- runForwarder(ctx, pid, inside, []net.Listener{l}, []string{target}) }()
	return done
}

func TestForwarderOpensConnectionsInside(t *testing.T) {
	t.Parallel()
	pid, ns, end := network(t)
	server, err := ns.listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	go shouter(server)
	_, err = net.Dial("tcp4", server.Addr().String())
	require.Error(t, err, "the host must not see the node's network")

	l := listen(t)
	done := startForwarding(t, pid, true, l, server.Addr().String())
	require.Equal(t, "HELLO", ask(t, l.Addr().String(), "hello"))

	end()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(testTimeout):
		require.Fail(t, "the forwarder outlives its node")
	}
}

func TestForwarderOpensTheHostToTheInside(t *testing.T) {
	t.Parallel()
	pid, ns, _ := network(t)
	server := listen(t)
	go shouter(server)
	l, err := ns.listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	startForwarding(t, pid, false, l, server.Addr().String())
	require.NoError(t, ns.run(func() error {
		require.Equal(t, "HELLO", ask(t, l.Addr().String(), "hello"))
		return nil
	}))
}
