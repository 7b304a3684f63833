// Package kafkatest gives tests topics of their own, on the real brokers or on a broker inside the test's process.
package kafkatest

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/testenv"
)

const timeout = 2 * time.Minute

// Real returns the brokers that KAFKA_BROKERS names.
func Real(t testing.TB) []string {
	t.Helper()
	return strings.Split(testenv.Require(t, testenv.KafkaBrokers), ",")
}

// Fake starts a broker in this process.
func Fake(t testing.TB) []string {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return cluster.ListenAddrs()
}

// NewTopic makes a topic with a unique name, and its dead-letter topic.
func NewTopic(t testing.TB, brokers []string, partitions int32) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	name := "test-" + uuid.NewString()
	require.NoError(t, kafka.EnsureTopic(ctx, brokers, kafka.TopicSpec{Name: name, Partitions: partitions, ReplicationFactor: 1}))
	require.NoError(t, kafka.EnsureTopic(ctx, brokers, kafka.TopicSpec{Name: kafka.DeadLetterTopic(name), Partitions: 1, ReplicationFactor: 1}))
	return name
}

// Producer connects a producer that is closed with the test.
func Producer(t testing.TB, brokers []string) sarama.SyncProducer {
	t.Helper()
	producer, err := kafka.NewProducer(brokers, "test")
	require.NoError(t, err)
	t.Cleanup(func() { _ = producer.Close() })
	return producer
}

// Send writes values with one key, in order.
func Send(t testing.TB, brokers []string, topic, key string, values ...[]byte) {
	t.Helper()
	producer := Producer(t, brokers)
	for _, value := range values {
		_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(key), Value: sarama.ByteEncoder(value)})
		require.NoError(t, err)
	}
}

// Read reads all partitions of a topic from the beginning until it has n messages; fewer within the time limit fail the test. Messages of one
// partition are in order.
func Read(t testing.TB, brokers []string, topic string, n int) []*sarama.ConsumerMessage {
	t.Helper()
	cfg := kafka.NewConfig("test")
	cfg.Consumer.MaxWaitTime = 20 * time.Millisecond
	consumer, err := sarama.NewConsumer(brokers, cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, consumer.Close()) }()
	partitions, err := consumer.Partitions(topic)
	require.NoError(t, err)
	merged := make(chan *sarama.ConsumerMessage)
	done := make(chan struct{})
	for _, p := range partitions {
		claim, err := consumer.ConsumePartition(topic, p, sarama.OffsetOldest)
		require.NoError(t, err)
		defer func() { require.NoError(t, claim.Close()) }()
		go func() {
			for msg := range claim.Messages() {
				select {
				case merged <- msg:
				case <-done:
					return
				}
			}
		}()
	}
	defer close(done)
	limit := time.After(timeout)
	var out []*sarama.ConsumerMessage
	for len(out) < n {
		select {
		case msg := <-merged:
			out = append(out, msg)
		case <-limit:
			require.Failf(t, "messages are missing", "%s has %d of %d messages", topic, len(out), n)
		}
	}
	return out
}

// Header returns the value of a record's header, or "".
func Header(msg *sarama.ConsumerMessage, key string) string {
	for _, h := range msg.Headers {
		if string(h.Key) == key {
			return string(h.Value)
		}
	}
	return ""
}

// Committed returns the group's committed offset of a partition, -1 for none.
func Committed(t testing.TB, brokers []string, group, topic string, partition int32) int64 {
	t.Helper()
	admin, err := sarama.NewClusterAdmin(brokers, kafka.NewConfig("test"))
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close()) }()
	offsets, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {partition}})
	require.NoError(t, err)
	block := offsets.GetBlock(topic, partition)
	require.NotNil(t, block)
	return block.Offset
}

// Start runs a role until the test ends, and returns a function that ends it before.
func Start(t testing.TB, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	var stopped bool
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(timeout):
			require.Fail(t, "the role does not end")
		}
	}
	t.Cleanup(stop)
	return stop
}

// Logger returns a logger that is silent unless the tests run with -v.
func Logger(t testing.TB) *slog.Logger {
	t.Helper()
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}
