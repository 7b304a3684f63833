package kafka_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
)

// TestPoisonAsLargeAsATopicTakesHoldsUpNothing has a record that fits into its topic, and doesn't fit into the dead-letter topic with a letter's headers.
func TestPoisonAsLargeAsATopicTakesHoldsUpNothing(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Real(t)
	topic := kafkatest.NewTopic(t, brokers, 1)
	send := uncompressed(t, brokers, topic)
	largest := noise(limit - 200)
	send([]byte("bad"))
	send(largest)
	send([]byte("good"))

	opts := options(t, brokers, topic)
	r := newRecorder(nil)
	kafkatest.Start(t, kafka.NewConsumer(opts, kafka.HandlerFunc(func(ctx context.Context, batch []*sarama.ConsumerMessage) (poison []kafka.Poison, err error) {
		for _, m := range batch {
			if string(m.Value) == "good" {
				_, err = r.Handle(ctx, []*sarama.ConsumerMessage{m})
				continue
			}
			poison = append(poison, kafka.Poison{Message: m, Reason: fmt.Sprintf("%200d bytes are no event", len(m.Value))})
		}
		return poison, err
	})).Run)
	require.Equal(t, []string{"good"}, r.wait(t, 1))
	committed(t, opts, 3)

	letters := kafkatest.Read(t, brokers, kafka.DeadLetterTopic(topic), 2)
	require.Equal(t, "bad", string(letters[0].Value))
	require.Empty(t, kafkatest.Header(letters[0], kafka.HeaderDLQLeft))
	notice := letters[1]
	require.Empty(t, notice.Value)
	require.Equal(t, strconv.Itoa(len(largest)+len("key")), kafkatest.Header(notice, kafka.HeaderDLQLeft))
	require.Equal(t, "1", kafkatest.Header(notice, kafka.HeaderDLQOffset))
	require.Equal(t, topic, kafkatest.Header(notice, kafka.HeaderDLQTopic))
	require.Contains(t, kafkatest.Header(notice, kafka.HeaderDLQReason), "bytes are no event")
}

// TestAReasonThatQuotesItsRecordHoldsUpNothing has a record that fits into the dead-letter topic, and whose reason quotes it twice.
func TestAReasonThatQuotesItsRecordHoldsUpNothing(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Real(t)
	topic := kafkatest.NewTopic(t, brokers, 1)
	send := uncompressed(t, brokers, topic)
	bad := fmt.Appendf(nil, `{"occurred_at":"%x"}`, noise(300_000))
	_, why := event.Decode(bad)
	require.Greater(t, len(why.Error()), 2*600_000)
	send(bad)
	send([]byte("good"))

	opts := options(t, brokers, topic)
	var log bytes.Buffer
	opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	r := newRecorder(nil)
	stop := kafkatest.Start(t, kafka.NewConsumer(opts, kafka.HandlerFunc(func(ctx context.Context, batch []*sarama.ConsumerMessage) (poison []kafka.Poison, err error) {
		for _, m := range batch {
			if string(m.Value) == "good" {
				_, err = r.Handle(ctx, []*sarama.ConsumerMessage{m})
				continue
			}
			poison = append(poison, kafka.Poison{Message: m, Reason: why.Error()})
		}
		return poison, err
	})).Run)
	require.Equal(t, []string{"good"}, r.wait(t, 1))
	committed(t, opts, 2)
	stop()
	require.Less(t, log.Len(), 10_000)

	letter := kafkatest.Read(t, brokers, kafka.DeadLetterTopic(topic), 1)[0]
	require.Equal(t, bad, letter.Value)
	reason := kafkatest.Header(letter, kafka.HeaderDLQReason)
	require.True(t, strings.HasPrefix(reason, "decode envelope: parsing time"), reason)
	require.LessOrEqual(t, len(reason), 1100)
}

const limit = 1_048_588 // of a batch, Kafka's default

// uncompressed returns a function that sends a value of any size.
func uncompressed(t *testing.T, brokers []string, topic string) func(value []byte) {
	t.Helper()
	cfg := kafka.NewProducerConfig("test")
	cfg.Producer.MaxMessageBytes, cfg.Producer.Compression = 2*limit, sarama.CompressionNone
	producer, err := sarama.NewSyncProducer(brokers, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, producer.Close()) })
	return func(value []byte) {
		_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder("key"), Value: sarama.ByteEncoder(value)})
		require.NoError(t, err)
	}
}

// noise can't be compressed.
func noise(n int) []byte {
	out := make([]byte, n)
	seed := uint64(1)
	for i := range out {
		seed = seed*6364136223846793005 + 1442695040888963407
		out[i] = byte(seed >> 56)
	}
	return out
}
