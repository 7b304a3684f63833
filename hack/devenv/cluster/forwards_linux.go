package cluster

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atlas-platform/atlas/hack/devenv/process"
)

const (
	serversForward = forwardPrefix + "servers"
	// maxServers is how many listeners one process can inherit.
	maxServers = 6
)

// openServers starts a forwarder from each server's port at ip, where listen listens, to the same port at 127.0.0.1. One that has the same
// servers already stays.
func openServers(
	ctx context.Context, state *process.State, node int, ip string, servers map[string]int, listen func(addr string) (net.Listener, error),
) error {
	ports := slices.Compact(slices.Sorted(maps.Values(servers)))
	if len(ports) > maxServers {
		return fmt.Errorf("at most %d servers can be reached from pods, not %d", maxServers, len(ports))
	}
	var there, here []string
	for _, port := range ports {
		there = append(there, net.JoinHostPort(ip, strconv.Itoa(port)))
		here = append(here, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	}
	address := strings.Join(there, ",")
	if p, ok := state.Find(serversForward); ok && p.Address == address {
		return nil
	}
	if err := state.Stop(ctx, serversForward); err != nil || len(ports) == 0 {
		return err
	}
	listeners := make([]net.Listener, 0, len(ports))
	defer func() { closeAll(listeners) }()
	for _, addr := range there {
		l, err := listen(addr)
		if err != nil {
			return fmt.Errorf("listen at %s for pods: %w", addr, err)
		}
		listeners = append(listeners, l)
	}
	return startForwarder(ctx, state, serversForward, address, listeners, append([]string{"--node", strconv.Itoa(node)}, here...)...)
}

// startForwarder starts devenv again as a forwarder that inherits the listeners.
func startForwarder(ctx context.Context, state *process.State, name, address string, listeners []net.Listener, args ...string) error {
	self, err := executable(ctx, state)
	if err != nil {
		return err
	}
	var files []*os.File
	defer func() { closeAll(files) }()
	for _, l := range listeners {
		tcp, ok := l.(*net.TCPListener)
		if !ok {
			return fmt.Errorf("hand a listener to %s: not TCP", name)
		}
		f, err := tcp.File()
		if err != nil {
			return fmt.Errorf("hand a listener to %s: %w", name, err)
		}
		files = append(files, f)
	}
	_, err = state.Start(process.Spec{
		Name: name, Path: self, Args: append([]string{"forward"}, args...), ExtraFiles: files, Address: address, StopGrace: 2 * time.Second,
	})
	return err
}

func closeAll[T interface{ Close() error }](all []T) {
	for _, c := range all {
		_ = c.Close()
	}
}
