package relay_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/services/relay"
	"github.com/atlas-platform/atlas/services/relay/produce"
)

// TestAStandbyWakesTheLeader has a leader that hardly ever looks by itself.
func TestAStandbyWakesTheLeader(t *testing.T) {
	t.Parallel()
	brokers, pool := kafkatest.Fake(t), pgtest.New(t)
	topic, seed := kafkatest.NewTopic(t, brokers, 1), indexingtest.NewSeed(t, pool)
	item := seed.Item(t, seed.Collection(t), "x", "")
	cfg := relay.Config{Brokers: brokers, Topic: topic, PollInterval: time.Hour, Lease: 5 * time.Hour, NotifyInterval: 20 * time.Millisecond}
	leader := relay.New(cfg, relay.Deps{Logger: kafkatest.Logger(t), Pool: pool})
	kafkatest.Start(t, leader.Run)
	require.Eventually(t, leader.Leading, patience, time.Millisecond)
	require.Eventually(t, func() bool {
		return count(t, pool, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%LISTEN%' AND pid <> pg_backend_pid()") == 1
	}, patience, 5*time.Millisecond)
	standby := relay.New(cfg, relay.Deps{Logger: kafkatest.Logger(t), Pool: pool})
	kafkatest.Start(t, standby.Run)

	conn, err := pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig)
	require.NoError(t, err)
	defer conn.Close(context.Background()) //nolint:errcheck // nothing is pending
	_, err = conn.Exec(t.Context(), "LISTEN atlas_outbox")
	require.NoError(t, err)
	const nudges = 3000
	require.NoError(t, write(t.Context(), pool, item))
	for range nudges {
		standby.Nudge()
	}
	drained(t, pool)
	require.False(t, standby.Leading())
	require.NoError(t, write(t.Context(), pool, item))
	standby.Nudge() // whatever was announced before
	drained(t, pool)

	heard := 0
	for {
		wait, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := conn.WaitForNotification(wait)
		cancel()
		if err != nil {
			break
		}
		heard++
	}
	require.Positive(t, heard)
	require.Less(t, heard, nudges/10, "announcements are few")
}

// unsteady is the way to real brokers that can be cut.
type unsteady struct {
	down  atomic.Bool
	mu    sync.Mutex
	conns []net.Conn
}

func (u *unsteady) Dial(network, address string) (net.Conn, error) {
	if u.down.Load() {
		return nil, errors.New("no way to the broker")
	}
	conn, err := (&net.Dialer{}).DialContext(context.Background(), network, address)
	if err == nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.conns = append(u.conns, conn)
	}
	return conn, err
}

func (u *unsteady) cut() {
	u.down.Store(true)
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range u.conns {
		_ = c.Close()
	}
	u.conns = nil
}

func (u *unsteady) producer(brokers []string, topic string) (relay.Producer, error) {
	cfg := kafka.NewProducerConfig("test")
	cfg.Net.Proxy.Enable, cfg.Net.Proxy.Dialer = true, u
	client, err := sarama.NewClient(brokers, cfg)
	if err != nil {
		return nil, err
	}
	return produce.New(client, topic, produce.Config{RetryFor: 300 * time.Millisecond})
}

// TestBrokersComeAndGo writes on while the way to Kafka is cut, in the middle of whatever the relay does, again and again.
func TestBrokersComeAndGo(t *testing.T) {
	t.Parallel()
	brokers, pool, way := kafkatest.Real(t), pgtest.New(t), &unsteady{}
	topic, seed := kafkatest.NewTopic(t, brokers, 2), indexingtest.NewSeed(t, pool)
	collection := seed.Collection(t)
	items := []uuid.UUID{seed.Item(t, collection, "x", ""), seed.Item(t, collection, "y", "")}
	r := relay.New(relay.Config{BatchSize: 8, RetryMax: 20 * time.Millisecond}, relay.Deps{
		Logger: kafkatest.Logger(t), Pool: pool, NewProducer: func() (relay.Producer, error) { return way.producer(brokers, topic) },
	})
	kafkatest.Start(t, r.Run)
	const rounds, each = 6, 20
	for range rounds {
		for i := range each {
			for _, item := range items {
				require.NoError(t, write(t.Context(), pool, item))
				r.Nudge()
			}
			if i == each/2 {
				way.cut()
			}
		}
		require.Positive(t, unpublished(t, pool))
		way.down.Store(false)
		drained(t, pool)
	}
	requireOrder(t, kafkatest.Read(t, brokers, topic, rounds*each*len(items)), len(items), rounds*each)
}

// TestAMissingTopicIsWaitedFor starts before the topic is there.
func TestAMissingTopicIsWaitedFor(t *testing.T) {
	t.Parallel()
	brokers, pool, topic := kafkatest.Real(t), pgtest.New(t), "test-"+uuid.NewString()
	seed := indexingtest.NewSeed(t, pool)
	item := seed.Item(t, seed.Collection(t), "x", "")
	require.NoError(t, write(t.Context(), pool, item))
	r := relay.New(relay.Config{Brokers: brokers, Topic: topic, RetryMax: 50 * time.Millisecond}, relay.Deps{Logger: kafkatest.Logger(t), Pool: pool})
	kafkatest.Start(t, r.Run)
	require.Eventually(t, func() bool { return errors.Is(r.Ready(t.Context()), sarama.ErrUnknownTopicOrPartition) }, patience, 5*time.Millisecond)
	require.Equal(t, 1, unpublished(t, pool))
	require.NoError(t, kafka.EnsureTopic(t.Context(), brokers, kafka.TopicSpec{Name: topic, Partitions: 1, ReplicationFactor: 1}))
	drained(t, pool)
	requireOrder(t, kafkatest.Read(t, brokers, topic, 1), 1, 1)
}
