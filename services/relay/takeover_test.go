package relay_test

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/services/relay"
	"github.com/atlas-platform/atlas/services/relay/produce"
)

// gated is a producer that is stopped before each batch: it says so, and goes on when it may.
type gated struct {
	relay.Producer
	arrived chan []*sarama.Record
	enter   chan struct{}
}

func newGate() gated { return gated{arrived: make(chan []*sarama.Record), enter: make(chan struct{})} }

func (g gated) Send(ctx context.Context, records []*sarama.Record) produce.Outcome {
	g.arrived <- records
	<-g.enter
	return g.Producer.Send(ctx, records)
}

// before is NewProducer of a relay whose batches stop at the gate.
func (g gated) before(brokers []string, topic string) func() (relay.Producer, error) {
	return func() (relay.Producer, error) {
		producer, err := relay.NewProducer(brokers, topic, nil)
		return gated{producer, g.arrived, g.enter}, err
	}
}

// through tells how pool reaches its database by way of the network.
func (n *silentNetwork) through(t *testing.T, direct *pgxpool.Pool) *pgxpool.Pool {
	t.Helper()
	cfg := direct.Config()
	n.target = net.JoinHostPort(cfg.ConnConfig.Host, strconv.Itoa(int(cfg.ConnConfig.Port)))
	t.Cleanup(n.Close)
	cfg.ConnConfig.DialFunc, cfg.ConnConfig.ConnectTimeout = n.DialContext, 200*time.Millisecond
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// TestAPausedLeaderComesBack stops a leader in the middle of a batch, as SIGSTOP does, and ends its connection. Another takes over; what the first one
// still sends when it goes on is known by then, and it sends no more than that.
func TestAPausedLeaderComesBack(t *testing.T) {
	t.Parallel()
	brokers, pool := kafkatest.Real(t), pgtest.New(t)
	topic, seed := kafkatest.NewTopic(t, brokers, 2), indexingtest.NewSeed(t, pool)
	item := seed.Item(t, seed.Collection(t), "x", "")
	for range 5 {
		require.NoError(t, write(t.Context(), pool, item))
	}
	gate := newGate()
	paused := relay.New(relay.Config{BatchSize: 2, RetryMax: time.Hour}, relay.Deps{
		Logger: kafkatest.Logger(t), Pool: pool, NewProducer: gate.before(brokers, topic),
	})
	kafkatest.Start(t, paused.Run)
	require.Len(t, <-gate.arrived, 2)
	seed.Exec(t, `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)

	next := relay.New(relay.Config{Brokers: brokers, Topic: topic}, relay.Deps{Logger: kafkatest.Logger(t), Pool: pool})
	kafkatest.Start(t, next.Run)
	drained(t, pool)
	require.True(t, next.Leading())
	require.NoError(t, write(t.Context(), pool, item))
	drained(t, pool)

	gate.enter <- struct{}{} // the pause is over
	require.Eventually(t, func() bool { return !paused.Leading() }, patience, 5*time.Millisecond)
	require.NoError(t, write(t.Context(), pool, item))
	drained(t, pool)
	messages := kafkatest.Read(t, brokers, topic, 7+2)
	requireOrder(t, messages, 1, 7)
}

// TestTheLeaseOfASilentLeaderEnds has a leader whom the database no longer hears, although its connection was never closed.
func TestTheLeaseOfASilentLeaderEnds(t *testing.T) {
	t.Parallel()
	brokers, direct := kafkatest.Fake(t), pgtest.New(t)
	topic, seed := kafkatest.NewTopic(t, brokers, 1), indexingtest.NewSeed(t, direct)
	item, network := seed.Item(t, seed.Collection(t), "x", ""), &silentNetwork{}
	cfg := relay.Config{Brokers: brokers, Topic: topic, Lease: 300 * time.Millisecond, StandbyInterval: 20 * time.Millisecond, QueryTimeout: time.Minute}
	first := relay.New(cfg, relay.Deps{Logger: kafkatest.Logger(t), Pool: network.through(t, direct)})
	kafkatest.Start(t, first.Run)
	t.Cleanup(network.Close) // before the relay is waited for
	require.Eventually(t, first.Leading, patience, 5*time.Millisecond)
	network.silent.Store(true)

	second := relay.New(cfg, relay.Deps{Logger: kafkatest.Logger(t), Pool: direct})
	kafkatest.Start(t, second.Run)
	require.NoError(t, write(t.Context(), direct, item))
	drained(t, direct)
	require.True(t, second.Leading())
}

// TestALateCommitIsNotPassed has an event with a small id appear while batches with bigger ids are on their way. It must be found, and before the
// next event of its aggregate: a reader that goes on after the last id would find that one only.
func TestALateCommitIsNotPassed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	brokers, pool := kafkatest.Fake(t), pgtest.New(t)
	topic, seed := kafkatest.NewTopic(t, brokers, 1), indexingtest.NewSeed(t, pool)
	collection := seed.Collection(t)
	late, other := seed.Item(t, collection, "late", ""), seed.Item(t, collection, "other", "")

	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, "UPDATE items SET version = version + 1 WHERE id = $1", late)
	require.NoError(t, err)
	require.NoError(t, announce(ctx, tx, late, 2))
	for range 6 {
		require.NoError(t, write(ctx, pool, other))
	}
	gate := newGate()
	kafkatest.Start(t, relay.New(relay.Config{BatchSize: 2}, relay.Deps{
		Logger: kafkatest.Logger(t), Pool: pool, NewProducer: gate.before(brokers, topic),
	}).Run)
	require.Len(t, <-gate.arrived, 2)
	gate.enter <- struct{}{}
	require.Len(t, <-gate.arrived, 2)
	require.NoError(t, tx.Commit(ctx))
	require.NoError(t, write(ctx, pool, late))
	go func() {
		for range 3 {
			gate.enter <- struct{}{}
			<-gate.arrived
		}
		gate.enter <- struct{}{}
	}()
	latest := map[string]int64{}
	for _, m := range kafkatest.Read(t, brokers, topic, 8) {
		e, err := event.Decode(m.Value)
		require.NoError(t, err)
		v := announcedVersion(t, e)
		require.Equal(t, max(latest[string(m.Key)], 1)+1, v)
		latest[string(m.Key)] = v
	}
	drained(t, pool)
}
