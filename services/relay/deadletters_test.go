package relay_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/services/relay"
	"github.com/atlas-platform/atlas/services/relay/produce"
)

// tell writes an event of an item with a source of so many random bytes, and returns its id.
func tell(t *testing.T, pool *pgxpool.Pool, item uuid.UUID, version int64, size int) uuid.UUID {
	t.Helper()
	noise := make([]byte, size)
	_, _ = rand.Read(noise)
	source := base64.StdEncoding.EncodeToString(noise)
	e := event.Envelope{
		EventID: uuid.New(), EventType: event.ItemUpdated, Version: 1, Entity: event.Entity{Type: event.EntityItem, ID: item, CollectionID: &item},
	}
	data, err := json.Marshal(event.ItemData{ItemID: item, CollectionID: item, EntityVersion: version, ChangedFields: []string{}, SourceURL: &source})
	require.NoError(t, err)
	e.Data = data
	require.NoError(t, postgres.InTx(t.Context(), pool, func(tx pgx.Tx) error { return postgres.WriteEvent(t.Context(), db.New(tx), e) }))
	return e.EventID
}

// TestWhatKafkaRefusesGoesToTheDeadLetters has a topic that takes small messages only: the others come through, in order, and the large one when the
// topic takes it at last.
func TestWhatKafkaRefusesGoesToTheDeadLetters(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	brokers, pool, topic := kafkatest.Real(t), pgtest.New(t), "test-"+uuid.NewString()
	require.NoError(t, kafka.EnsureTopic(ctx, brokers, kafka.TopicSpec{
		Name: topic, Partitions: 1, ReplicationFactor: 1, Config: map[string]string{"max.message.bytes": "4000"},
	}))
	item, registry, queries := uuid.New(), prometheus.NewRegistry(), db.New(pool)
	tell(t, pool, item, 1, 10)
	large := tell(t, pool, item, 2, 10_000)
	tell(t, pool, item, 3, 10)
	kafkatest.Start(t, relay.New(relay.Config{Brokers: brokers, Topic: topic}, relay.Deps{
		Logger: kafkatest.Logger(t), Pool: pool, Registerer: registry,
	}).Run)
	drained(t, pool)
	require.Equal(t, []int64{1, 3}, versions(t, kafkatest.Read(t, brokers, topic, 2)))
	counted, err := testutil.GatherAndCount(registry, "atlas_relay_dead_letters_total")
	require.NoError(t, err)
	require.Equal(t, 1, counted)
	letters, err := queries.ListOutboxDeadLetters(ctx, nil, nil, 10)
	require.NoError(t, err)
	require.Len(t, letters, 1)
	require.Equal(t, large, letters[0].EventID)
	require.Equal(t, "ItemUpdated", letters[0].EventType)
	require.Contains(t, letters[0].Reason, "too large")
	require.Greater(t, letters[0].PayloadBytes, int32(10_000))
	next, err := queries.ListOutboxDeadLetters(ctx, &letters[0].FailedAt, &letters[0].EventID, 10)
	require.NoError(t, err)
	require.Empty(t, next)

	admin, err := sarama.NewClusterAdmin(brokers, kafka.NewConfig("test"))
	require.NoError(t, err)
	defer admin.Close() //nolint:errcheck // nothing is pending
	enough := "100000"
	require.NoError(t, admin.AlterConfig(sarama.TopicResource, topic, map[string]*string{"max.message.bytes": &enough}, false))
	letter, err := queries.GetOutboxDeadLetter(ctx, large)
	require.NoError(t, err)
	requeued, err := queries.RequeueOutboxDeadLetters(ctx, []uuid.UUID{large, uuid.New()})
	require.NoError(t, err)
	require.EqualValues(t, 1, requeued)
	messages := kafkatest.Read(t, brokers, topic, 3)
	require.Equal(t, []int64{1, 3, 2}, versions(t, messages))
	require.Equal(t, string(letter.Payload), string(messages[2].Value))
	drained(t, pool)
	require.Zero(t, count(t, pool, "SELECT count(*) FROM outbox_dead_letters"))
}

func versions(t *testing.T, messages []*sarama.ConsumerMessage) (out []int64) {
	t.Helper()
	for _, m := range messages {
		var e event.Envelope
		require.NoError(t, json.Unmarshal(m.Value, &e))
		out = append(out, announcedVersion(t, e))
	}
	return out
}

// weighing is a producer that keeps the size of each batch.
type weighing struct {
	relay.Producer
	sizes chan int
}

func (w weighing) Send(ctx context.Context, records []*sarama.Record) produce.Outcome {
	size := 0
	for _, r := range records {
		size += len(r.Value)
	}
	w.sizes <- size
	return w.Producer.Send(ctx, records)
}

func TestABatchIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	brokers, pool := kafkatest.Fake(t), pgtest.New(t)
	topic, sizes := kafkatest.NewTopic(t, brokers, 1), make(chan int, 1000)
	const events, each = 40, 60_000
	for i := range events {
		tell(t, pool, uuid.New(), int64(i), each)
	}
	kafkatest.Start(t, relay.New(relay.Config{BatchBytes: 300_000}, relay.Deps{
		Logger: kafkatest.Logger(t), Pool: pool, NewProducer: func() (relay.Producer, error) {
			producer, err := relay.NewProducer(brokers, topic, nil)
			return weighing{producer, sizes}, err
		},
	}).Run)
	drained(t, pool)
	require.Len(t, kafkatest.Read(t, brokers, topic, events), events)
	require.GreaterOrEqual(t, len(sizes), 10)
	for range len(sizes) {
		require.Less(t, <-sizes, 300_000+2*each)
	}
}
