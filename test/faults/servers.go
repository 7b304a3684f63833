//go:build linux

package faults

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/hack/devenv/process"
	"github.com/atlas-platform/atlas/hack/devenv/servers"
)

// The servers, as devenv names their processes.
const (
	postgres      = "postgres"
	kafkaServer   = "kafka"
	elasticsearch = "elasticsearch"
)

// serverBundle is an environment of real servers that belongs to one test.
type serverBundle struct {
	t     testing.TB
	state *process.State
	*servers.Servers
	// proxied is held by the platform whose processes reach Kafka by its proxy: the broker tells its clients one address.
	proxied sync.Mutex
}

// startServers starts an instance of its own: nobody else's servers are broken.
func startServers(t testing.TB, instance string) *serverBundle {
	t.Helper()
	state, err := process.Open(instance)
	require.NoError(t, err)
	b := &serverBundle{t: t, state: state}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, servers.Down(ctx, state, false))
		require.NoError(t, state.StopAll(ctx))
		require.NoError(t, state.Remove())
	})
	b.up()
	require.NotEmpty(t, b.KafkaProxy, "Kafka is no process of this instance")
	return b
}

// up starts what does not run, at the same addresses; again when a server did not get ready in its time, as on a machine that has too much to do.
func (b *serverBundle) up() {
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	started, err := backoff.Retry(ctx, func() (*servers.Servers, error) {
		return servers.Up(ctx, servers.Options{State: b.state, Processes: true, Getenv: func(string) string { return "" }})
	}, backoff.WithMaxTries(3))
	require.NoError(b.t, err)
	b.Servers = started
}

// signal sends a signal to a server and, as PostgreSQL has a process for each connection, to its children.
func (b *serverBundle) signal(name string, signal syscall.Signal) {
	running, ok := b.state.Find(name)
	require.True(b.t, ok, "%s does not run", name)
	pids := []int{running.PID}
	if name == postgres && signal != syscall.SIGTERM {
		pids = append(pids, children(running.PID)...)
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, signal) // a connection's process may be gone
	}
}

// kill ends a server without a chance to say goodbye, and waits until it is gone.
func (b *serverBundle) kill(name string) {
	b.signal(name, syscall.SIGKILL)
	require.Eventually(b.t, func() bool {
		_, running := b.state.Find(name)
		return !running
	}, 30*time.Second, 20*time.Millisecond)
}

// address is where a server listens.
func (b *serverBundle) address(name string) string {
	switch name {
	case kafkaServer:
		return b.KafkaProxied
	case elasticsearch:
		return hostOf(b.t, b.ElasticsearchURL)
	default:
		return hostOf(b.t, b.DatabaseURL)
	}
}

func hostOf(t testing.TB, address string) string {
	u, err := url.Parse(address)
	require.NoError(t, err)
	return u.Host
}

// at is the address with another host and port.
func at(t testing.TB, address, host string) string {
	u, err := url.Parse(address)
	require.NoError(t, err)
	u.Host = host
	return u.String()
}

// database is the URL of another database of the same server.
func (b *serverBundle) database(name string) string {
	u, err := url.Parse(b.DatabaseURL)
	require.NoError(b.t, err)
	u.Path = "/" + name
	return fmt.Sprint(u)
}

// children are the processes that a process has started.
func children(pid int) []int {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil // it is gone
	}
	var pids []int
	for _, field := range strings.Fields(string(content)) {
		if child, err := strconv.Atoi(field); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}
