package relay_test

import (
	"context"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/services/relay"
)

// silentNetwork stands between a client and its database. While it is silent it takes what either says and passes nothing on, as a network does
// that lost its state: no connection is refused and none is closed.
type silentNetwork struct {
	silent atomic.Bool
	target string
	mu     sync.Mutex
	conns  []net.Conn
}

func (n *silentNetwork) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", n.target)
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	n.mu.Lock()
	n.conns = append(n.conns, far, server)
	n.mu.Unlock()
	go n.pass(server, far)
	go n.pass(far, server)
	return near, nil
}

func (n *silentNetwork) pass(to, from net.Conn) {
	defer to.Close()
	_, _ = io.Copy(to, listener{n, from}) // ends with either connection
}

func (n *silentNetwork) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		_ = c.Close()
	}
}

type listener struct {
	network *silentNetwork
	net.Conn
}

func (l listener) Read(b []byte) (int, error) {
	for {
		n, err := l.Conn.Read(b)
		if err != nil || !l.network.silent.Load() {
			return n, err
		}
	}
}

func TestSilentDatabaseEndsTheCandidacy(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	brokers, direct := kafkatest.Fake(t), pgtest.New(t)
	topic, seed := kafkatest.NewTopic(t, brokers, 1), indexingtest.NewSeed(t, direct)
	item := seed.Item(t, seed.Collection(t), "x", "")

	cfg := direct.Config()
	network := &silentNetwork{target: net.JoinHostPort(cfg.ConnConfig.Host, strconv.Itoa(int(cfg.ConnConfig.Port)))}
	t.Cleanup(network.Close)
	cfg.ConnConfig.DialFunc, cfg.ConnConfig.ConnectTimeout = network.DialContext, 200*time.Millisecond
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)

	r := relay.New(relay.Config{Brokers: brokers, Topic: topic, RetryMax: 20 * time.Millisecond, QueryTimeout: 200 * time.Millisecond},
		relay.Deps{Logger: kafkatest.Logger(t), Pool: pool})
	kafkatest.Start(t, r.Run)
	require.Eventually(t, r.Leading, patience, 5*time.Millisecond)
	network.silent.Store(true)
	require.Eventually(t, func() bool { return !r.Leading() && r.Ready(ctx) != nil }, patience, 5*time.Millisecond)
	require.NoError(t, write(ctx, direct, item))
	network.Close() // the server notices what was lost: the lock is free
	network.silent.Store(false)
	drained(t, direct)
}
