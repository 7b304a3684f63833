package relay_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/telemetry"
	"github.com/atlas-platform/atlas/services/relay"
	"github.com/atlas-platform/atlas/services/relay/produce"
)

const patience = 2 * time.Minute

// announce writes one event of an item to the outbox, as the API does.
func announce(ctx context.Context, tx pgx.Tx, item uuid.UUID, version int64) error {
	e, err := event.New(event.ItemUpdated, event.Entity{Type: event.EntityItem, ID: item, CollectionID: &item}, event.Origin{}, time.Now(),
		event.ItemData{ItemID: item, CollectionID: item, EntityVersion: version})
	if err != nil {
		return err
	}
	return postgres.WriteEvent(ctx, db.New(tx), e)
}

// write bumps an item's version, then announces it: the order that every writer keeps.
func write(ctx context.Context, pool *pgxpool.Pool, item uuid.UUID) error {
	return postgres.InTx(ctx, pool, func(tx pgx.Tx) error {
		var version int64
		if err := tx.QueryRow(ctx, "UPDATE items SET version = version + 1 WHERE id = $1 RETURNING version", item).Scan(&version); err != nil {
			return err
		}
		return announce(ctx, tx, item, version)
	})
}

func unpublished(t *testing.T, pool *pgxpool.Pool) (n int) {
	t.Helper()
	require.NoError(t, pool.QueryRow(context.Background(), "SELECT count(*) FROM outbox WHERE published_at IS NULL").Scan(&n))
	return n
}

func drained(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	require.Eventually(t, func() bool { return unpublished(t, pool) == 0 }, patience, 10*time.Millisecond)
}

// requireOrder checks that every item's versions come in order, none missing. An event may come again, later: that is known by its id.
func requireOrder(t *testing.T, messages []*sarama.ConsumerMessage, items, versions int) {
	t.Helper()
	latest, seen := map[uuid.UUID]int64{}, map[uuid.UUID]bool{}
	for _, msg := range messages {
		require.NoError(t, event.Validate(msg.Value))
		e, err := event.Decode(msg.Value)
		require.NoError(t, err)
		require.Equal(t, e.Entity.ID.String(), string(msg.Key))
		if seen[e.EventID] {
			continue
		}
		seen[e.EventID] = true
		version := announcedVersion(t, e) - 1
		require.Equal(t, latest[e.Entity.ID]+1, version, "versions of an item are in order")
		latest[e.Entity.ID] = version
	}
	require.Len(t, latest, items)
	for _, v := range latest {
		require.EqualValues(t, versions, v)
	}
}

func announcedVersion(t *testing.T, e event.Envelope) int64 {
	t.Helper()
	var data event.ItemData
	require.NoError(t, json.Unmarshal(e.Data, &data))
	return data.EntityVersion
}

func TestConcurrentWritersKeepTheOrderOfEachItem(t *testing.T) {
	t.Parallel()
	for name, brokers := range map[string]func(testing.TB) []string{"fake": kafkatest.Fake, "real": kafkatest.Real} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const writers, items, writes = 8, 5, 40
			ctx := context.Background()
			brokers, pool := brokers(t), pgtest.New(t)
			topic, seed := kafkatest.NewTopic(t, brokers, 3), indexingtest.NewSeed(t, pool)
			collection := seed.Collection(t)
			var ids []uuid.UUID
			for range items {
				ids = append(ids, seed.Item(t, collection, "x", ""))
			}
			r := relay.New(relay.Config{Brokers: brokers, Topic: topic, BatchSize: 16}, relay.Deps{Logger: kafkatest.Logger(t), Pool: pool})
			kafkatest.Start(t, r.Run)
			var group sync.WaitGroup
			var failed atomic.Pointer[error]
			for w := range writers {
				group.Go(func() {
					for i := range writes * items / writers {
						if err := write(ctx, pool, ids[(i+w)%items]); err != nil {
							failed.Store(&err)
						}
						r.Nudge()
					}
				})
			}
			group.Wait()
			require.Nil(t, failed.Load())
			drained(t, pool)
			requireOrder(t, kafkatest.Read(t, brokers, topic, writes*items), items, writes)
		})
	}
}

func TestTheRecordIsTheRow(t *testing.T) {
	t.Parallel()
	brokers, pool := kafkatest.Fake(t), pgtest.New(t)
	topic := kafkatest.NewTopic(t, brokers, 1)
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	ctx := telemetry.WithTrace(context.Background(), telemetry.Trace{ID: "x", Parent: parent})
	item := uuid.New()
	require.NoError(t, postgres.InTx(ctx, pool, func(tx pgx.Tx) error { return announce(ctx, tx, item, 1) }))
	var payload, id string
	require.NoError(t, pool.QueryRow(ctx, "SELECT payload::text, event_id::text FROM outbox").Scan(&payload, &id))
	kafkatest.Start(t, relay.New(relay.Config{Brokers: brokers, Topic: topic}, relay.Deps{Logger: kafkatest.Logger(t), Pool: pool}).Run)
	msg := kafkatest.Read(t, brokers, topic, 1)[0]
	require.Equal(t, payload, string(msg.Value))
	require.Equal(t, parent, kafkatest.Header(msg, kafka.HeaderTraceparent))
	require.Equal(t, id, kafkatest.Header(msg, kafka.HeaderEventID))
	require.Equal(t, "ItemUpdated", kafkatest.Header(msg, kafka.HeaderEventType))
}

func TestOneRelayLeadsAndAnotherTakesOver(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	brokers, pool := kafkatest.Fake(t), pgtest.New(t)
	topic, seed := kafkatest.NewTopic(t, brokers, 2), indexingtest.NewSeed(t, pool)
	item := seed.Item(t, seed.Collection(t), "x", "")
	cfg := relay.Config{Brokers: brokers, Topic: topic, StandbyInterval: 10 * time.Millisecond}
	deps := relay.Deps{Logger: kafkatest.Logger(t), Pool: pool}
	relays := []*relay.Relay{relay.New(cfg, deps), relay.New(cfg, deps)}
	stops := map[*relay.Relay]func(){}
	for _, r := range relays {
		stops[r] = kafkatest.Start(t, r.Run)
	}
	// A leader whose connection died learns it from its next query: for a moment two may believe that they lead, and one of them can't publish.
	leader := func() (found *relay.Relay) {
		require.Eventually(t, func() bool {
			leaders := 0
			for _, r := range relays {
				if r.Leading() {
					leaders++
					found = r
				}
			}
			return leaders == 1
		}, patience, 5*time.Millisecond)
		return found
	}
	leader()
	for range 5 {
		require.NoError(t, write(ctx, pool, item))
	}
	drained(t, pool)

	// The leader's connection dies: somebody leads again, and nothing is lost.
	seed.Exec(t, `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	for range 5 {
		require.NoError(t, write(ctx, pool, item))
	}
	drained(t, pool)

	// The leader ends: the other takes over.
	first := leader()
	stops[first]()
	require.False(t, first.Leading())
	for range 5 {
		require.NoError(t, write(ctx, pool, item))
	}
	drained(t, pool)
	require.NotSame(t, first, leader())
	requireOrder(t, kafkatest.Read(t, brokers, topic, published(t, brokers, topic)), 1, 15)
}

// published is how many messages the topic has by now: those come again that a leader had not settled when it lost its connection.
func published(t *testing.T, brokers []string, topic string) (n int) {
	t.Helper()
	client, err := sarama.NewClient(brokers, kafka.NewConfig("test"))
	require.NoError(t, err)
	defer client.Close()
	partitions, err := client.Partitions(topic)
	require.NoError(t, err)
	for _, p := range partitions {
		newest, err := client.GetOffset(topic, p, sarama.OffsetNewest)
		require.NoError(t, err)
		n += int(newest)
	}
	return n
}

// flaky is a producer that fails the events of one aggregate of a batch and delivers the others, as a real one may.
type flaky struct {
	relay.Producer
	failures *atomic.Int32
}

func (p flaky) Send(ctx context.Context, records []*sarama.Record) produce.Outcome {
	if len(records) < 2 || p.failures.Add(-1) < 0 {
		return p.Producer.Send(ctx, records)
	}
	var rest []*sarama.Record
	var places []int
	for i, r := range records {
		if !bytes.Equal(r.Key, records[0].Key) {
			rest, places = append(rest, r), append(places, i)
		}
	}
	out := p.Producer.Send(ctx, rest)
	for i, sent := range out.Sent {
		out.Sent[i] = places[sent]
	}
	out.Err = errors.New("the broker hiccuped")
	return out
}

func TestAFailedEventIsNotOvertaken(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	brokers, pool := kafkatest.Fake(t), pgtest.New(t)
	topic, seed := kafkatest.NewTopic(t, brokers, 1), indexingtest.NewSeed(t, pool)
	collection := seed.Collection(t)
	for range 4 {
		item := seed.Item(t, collection, "x", "")
		for range 6 {
			require.NoError(t, write(ctx, pool, item))
		}
	}
	var failures atomic.Int32
	failures.Store(5)
	kafkatest.Start(t, relay.New(relay.Config{Topic: topic, RetryMax: 20 * time.Millisecond}, relay.Deps{
		Logger: kafkatest.Logger(t), Pool: pool,
		NewProducer: func() (relay.Producer, error) {
			producer, err := relay.NewProducer(brokers, topic, nil)
			return flaky{producer, &failures}, err
		},
	}).Run)
	drained(t, pool)
	require.Negative(t, failures.Load())
	requireOrder(t, kafkatest.Read(t, brokers, topic, 24), 4, 6)
}

func TestKafkaAwayThenBack(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	item := seed.Item(t, seed.Collection(t), "x", "")
	brokers := kafkatest.Fake(t)
	topic := kafkatest.NewTopic(t, brokers, 1)
	var up atomic.Bool
	r := relay.New(relay.Config{Topic: topic, RetryMax: 20 * time.Millisecond}, relay.Deps{
		Logger: kafkatest.Logger(t), Pool: pool,
		NewProducer: func() (relay.Producer, error) {
			if !up.Load() {
				return nil, sarama.ErrOutOfBrokers
			}
			return relay.NewProducer(brokers, topic, nil)
		},
	})
	kafkatest.Start(t, r.Run)
	require.NoError(t, write(ctx, pool, item))
	require.Eventually(t, func() bool { return errors.Is(r.Ready(ctx), sarama.ErrOutOfBrokers) }, patience, 5*time.Millisecond)
	require.Equal(t, 1, unpublished(t, pool))
	up.Store(true)
	drained(t, pool)
	require.Eventually(t, func() bool { return r.Ready(ctx) == nil }, patience, 5*time.Millisecond)
}

func TestWhatWasWrittenLastIsPublishedOnTheWayOut(t *testing.T) {
	t.Parallel()
	brokers, pool := kafkatest.Fake(t), pgtest.New(t)
	topic, seed := kafkatest.NewTopic(t, brokers, 1), indexingtest.NewSeed(t, pool)
	item := seed.Item(t, seed.Collection(t), "x", "")
	r := relay.New(relay.Config{Brokers: brokers, Topic: topic, PollInterval: time.Hour, Lease: 5 * time.Hour}, relay.Deps{Logger: kafkatest.Logger(t), Pool: pool})
	stop := kafkatest.Start(t, r.Run)
	require.NoError(t, write(t.Context(), pool, item))
	r.Nudge()
	drained(t, pool)
	require.NoError(t, write(t.Context(), pool, item)) // no nudge
	stop()
	require.Zero(t, unpublished(t, pool))
}

// hanging is a producer whose broker takes connections and never answers.
type hanging struct{ sending, release chan struct{} }

func (h hanging) Send(context.Context, []*sarama.Record) produce.Outcome {
	close(h.sending)
	<-h.release
	return produce.Outcome{Err: sarama.ErrOutOfBrokers}
}

func (hanging) Close() error { return nil }

func TestBacklogIsMeasuredWhileKafkaHangs(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed, registry := indexingtest.NewSeed(t, pool), prometheus.NewRegistry()
	item := seed.Item(t, seed.Collection(t), "x", "")
	producer := hanging{sending: make(chan struct{}), release: make(chan struct{})}
	kafkatest.Start(t, relay.New(relay.Config{Topic: "t", MeasureInterval: 5 * time.Millisecond, RetryMax: time.Hour}, relay.Deps{
		Logger: kafkatest.Logger(t), Pool: pool, Registerer: registry, NewProducer: func() (relay.Producer, error) { return producer, nil },
	}).Run)
	t.Cleanup(func() { close(producer.release) })
	require.NoError(t, write(t.Context(), pool, item))
	<-producer.sending
	require.Eventually(t, func() bool {
		const want = "# HELP atlas_outbox_depth Events that wait to be published, counted up to 100000; every relay reports it.\n" +
			"# TYPE atlas_outbox_depth gauge\natlas_outbox_depth 1\n"
		return testutil.GatherAndCompare(registry, strings.NewReader(want), "atlas_outbox_depth") == nil
	}, patience, 5*time.Millisecond)
}

func count(t *testing.T, pool *pgxpool.Pool, query string) (n int) {
	t.Helper()
	require.NoError(t, pool.QueryRow(context.Background(), query).Scan(&n))
	return n
}

func TestPublishedRowsAreRemoved(t *testing.T) {
	t.Parallel()
	brokers, pool := kafkatest.Fake(t), pgtest.New(t)
	topic, seed := kafkatest.NewTopic(t, brokers, 1), indexingtest.NewSeed(t, pool)
	item := seed.Item(t, seed.Collection(t), "x", "")
	for range 3 {
		require.NoError(t, write(t.Context(), pool, item))
	}
	seed.Exec(t, "UPDATE outbox SET published_at = now() - interval '1 minute' WHERE id = (SELECT min(id) FROM outbox)") // by the release before
	kafkatest.Start(t, relay.New(relay.Config{Brokers: brokers, Topic: topic}, relay.Deps{Logger: kafkatest.Logger(t), Pool: pool}).Run)
	require.Eventually(t, func() bool { return count(t, pool, "SELECT count(*) FROM outbox") == 0 }, patience, 10*time.Millisecond)
	require.Len(t, kafkatest.Read(t, brokers, topic, 2), 2)
}

func TestPublishedRowsAreKeptAndPruned(t *testing.T) {
	t.Parallel()
	brokers, pool := kafkatest.Fake(t), pgtest.New(t)
	topic, seed := kafkatest.NewTopic(t, brokers, 1), indexingtest.NewSeed(t, pool)
	item := seed.Item(t, seed.Collection(t), "x", "")
	for range 3 {
		require.NoError(t, write(t.Context(), pool, item))
	}
	seed.Exec(t, "UPDATE outbox SET published_at = now() - interval '2 days' WHERE id = (SELECT min(id) FROM outbox)")
	cfg := relay.Config{Brokers: brokers, Topic: topic, Retention: 24 * time.Hour}
	kafkatest.Start(t, relay.New(cfg, relay.Deps{Logger: kafkatest.Logger(t), Pool: pool}).Run)
	drained(t, pool)
	require.Eventually(t, func() bool { return count(t, pool, "SELECT count(*) FROM outbox") == 2 }, patience, 10*time.Millisecond)
}
