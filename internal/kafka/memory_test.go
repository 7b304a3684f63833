package kafka_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
)

// drainVariable, when it is set, makes the test's program consume a topic and say how much memory that took: "brokers topic messages work".
const drainVariable = "ATLAS_TEST_DRAIN"

// drain prints the most that the heap ever had, in bytes, once it has handled all messages. Its work is slower than the fetching.
func drain(args []string) {
	want, err := strconv.Atoi(args[2])
	if err != nil {
		panic(err)
	}
	work, err := time.ParseDuration(args[3])
	if err != nil {
		panic(err)
	}
	ctx, done := context.WithCancel(context.Background())
	var handled atomic.Int64
	opts := kafka.Options{Brokers: strings.Split(args[0], ","), Topic: args[1], Group: "drain-" + uuid.NewString()}
	_ = kafka.NewConsumer(opts, kafka.HandlerFunc(func(ctx context.Context, batch []*sarama.ConsumerMessage) ([]kafka.Poison, error) {
		select {
		case <-ctx.Done():
		case <-time.After(work):
		}
		if handled.Add(int64(len(batch))) >= int64(want) {
			done()
		}
		return nil, nil
	})).Run(ctx)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Println(m.HeapSys)
}

// drained consumes a topic in a process of its own and returns the most MiB that its heap had.
func drained(t *testing.T, brokers []string, topic string, messages int, work time.Duration) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d %s", drainVariable, strings.Join(brokers, ","), topic, messages, work))
	out, err := cmd.Output()
	require.NoError(t, err)
	bytes, err := strconv.Atoi(strings.TrimSpace(string(out)))
	require.NoError(t, err)
	return bytes >> 20
}

func fill(t *testing.T, brokers []string, topic string, messages int, value func() []byte) {
	t.Helper()
	producer := kafkatest.Producer(t, brokers)
	var batch []*sarama.ProducerMessage
	for i := range messages {
		v := value()
		batch = append(batch, &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(strconv.Itoa(i)), Value: sarama.ByteEncoder(v)})
		if len(batch)*len(v) > 4<<20 || i == messages-1 {
			require.NoError(t, producer.SendMessages(batch))
			batch = nil
		}
	}
}

// TestMemoryIsFlatHoweverMuchIsBehind compares a small backlog with one that is 5 times as large.
func TestMemoryIsFlatHoweverMuchIsBehind(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Real(t)
	event := func() []byte { // as long as an event, and as hard to compress: random ids between words that repeat
		return fmt.Appendf(nil, `{"event_id":"%s","event_type":"ItemUpdated","entity":{"type":"Item","id":"%s"},"filler":"%0300d"}`, uuid.New(), uuid.New(), 0)
	}
	few, many := kafkatest.NewTopic(t, brokers, 3), kafkatest.NewTopic(t, brokers, 3)
	fill(t, brokers, few, 30_000, event)
	fill(t, brokers, many, 150_000, event)
	const work = 5 * time.Millisecond // for a batch
	small, large := drained(t, brokers, few, 30_000, work), drained(t, brokers, many, 150_000, work)
	t.Logf("heap: %d MiB with 30,000 behind, %d MiB with 150,000", small, large)
	require.Less(t, large, small+16)
}

// TestLargeMessagesAreNotPiledUp has 90 MB of messages behind that can't be compressed.
func TestLargeMessagesAreNotPiledUp(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Real(t)
	topic := kafkatest.NewTopic(t, brokers, 1)
	fill(t, brokers, topic, 100, func() []byte {
		b := make([]byte, 900<<10)
		_, _ = rand.Read(b)
		return b
	})
	heap := drained(t, brokers, topic, 100, 60*time.Millisecond)
	t.Logf("heap: %d MiB", heap)
	require.Less(t, heap, 48)
}
