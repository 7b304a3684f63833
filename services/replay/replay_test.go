package replay_test

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/services/replay"
)

const patience = 2 * time.Minute

func onBoth(t *testing.T, test func(t *testing.T, brokers []string)) {
	t.Run("fake", func(t *testing.T) {
		t.Parallel()
		test(t, kafkatest.Fake(t))
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		test(t, kafkatest.Real(t))
	})
}

func TestAGroupGoesBackAndDoesThePastAgain(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, brokers []string) {
		topic := kafkatest.NewTopic(t, brokers, 2)
		cfg := replay.Config{Kafka: config.Kafka{Brokers: brokers, Topic: topic}, GroupPrefix: topic}
		var handled atomic.Int64
		consume := func() (stop func()) {
			consumer := kafka.NewConsumer(kafka.Options{Brokers: brokers, Topic: topic, Group: topic + "-audit", Logger: kafkatest.Logger(t)},
				kafka.HandlerFunc(func(_ context.Context, batch []*sarama.ConsumerMessage) ([]kafka.Poison, error) {
					handled.Add(int64(len(batch)))
					return nil, nil
				}))
			stop = kafkatest.Start(t, consumer.Run)
			require.Eventually(t, func() bool { return consumer.Ready(t.Context()) == nil }, patience, time.Millisecond)
			return stop
		}
		becomes := func(n int64) {
			t.Helper()
			require.Eventually(t, func() bool {
				return handled.Load() == n && kafkatest.Committed(t, brokers, topic+"-audit", topic, 0)+kafkatest.Committed(t, brokers, topic+"-audit", topic, 1) >= 6
			}, patience, 20*time.Millisecond)
		}
		run := func(from string, o replay.Options) ([]replay.Move, error) {
			var err error
			o.Group = "audit"
			o.From, err = replay.ParseFrom(from)
			require.NoError(t, err)
			return replay.Run(t.Context(), cfg, o, &bytes.Buffer{}, &bytes.Buffer{})
		}
		producer := kafkatest.Producer(t, brokers)
		at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
		send := func(key string, minute int) {
			_, _, err := producer.SendMessage(&sarama.ProducerMessage{
				Topic: topic, Key: sarama.StringEncoder(key), Value: sarama.StringEncoder("v"), Timestamp: at.Add(time.Duration(minute) * time.Minute),
			})
			require.NoError(t, err)
		}
		// The two keys belong to different partitions, with 4 and 2 messages.
		for i := range 4 {
			send("a", i)
		}
		send("b", 0)
		send("b", 2)

		stop := consume()
		becomes(6)
		_, err := run("beginning", replay.Options{})
		require.ErrorContains(t, err, "1 active members")
		dry, err := run("beginning", replay.Options{DryRun: true})
		require.NoError(t, err)
		require.EqualValues(t, 6, dry[0].End+dry[1].End)
		require.Zero(t, dry[0].To+dry[1].To)
		require.Equal(t, dry[0].End, dry[0].Committed)
		stop()
		stop = consume()
		becomes(6) // the dry run changed nothing

		// It waits for the member to stop.
		waiting := &notice{said: make(chan struct{})}
		done := make(chan error, 1)
		go func() {
			_, err := replay.Run(t.Context(), cfg, replay.Options{Group: "audit", Wait: true}, &bytes.Buffer{}, waiting)
			done <- err
		}()
		select {
		case <-waiting.said:
		case err := <-done:
			require.Fail(t, "it did not wait", err)
		}
		stop()
		require.NoError(t, <-done)
		stop = consume()
		becomes(12)
		stop()

		moves, err := run(at.Add(2*time.Minute).Format(time.RFC3339Nano), replay.Options{}) // two of the one, one of the other
		require.NoError(t, err)
		require.EqualValues(t, 3, moves[0].End-moves[0].To+moves[1].End-moves[1].To)
		moves, err = run(time.Now().Add(time.Hour).Format(time.RFC3339), replay.Options{})
		require.NoError(t, err)
		require.Equal(t, moves[0].Committed, moves[0].To, "never forward")
		moves, err = run("3", replay.Options{})
		require.NoError(t, err)
		require.EqualValues(t, 3, moves[0].End-moves[0].To+moves[1].End-moves[1].To, "never forward, and not beyond the end")
		stop = consume()
		becomes(15)
		stop()
		moves, err = run("3", replay.Options{}) // a 4th message of the one, nothing of the other
		require.NoError(t, err)
		require.EqualValues(t, 1, moves[0].End-moves[0].To+moves[1].End-moves[1].To)
		consume()
		becomes(16)
	})
}

// notice tells when something is written.
type notice struct{ said chan struct{} }

func (n *notice) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "waiting") {
		close(n.said)
	}
	return len(b), nil
}

func TestAGroupThatNeverRanBeginsAtTheOldestAnyway(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Fake(t)
	topic := kafkatest.NewTopic(t, brokers, 1)
	cfg := replay.Config{Kafka: config.Kafka{Brokers: brokers, Topic: topic}, GroupPrefix: topic}
	kafkatest.Send(t, brokers, topic, "k", []byte("v"))
	var out bytes.Buffer
	moves, err := replay.Run(t.Context(), cfg, replay.Options{Group: "indexer"}, &out, &bytes.Buffer{})
	require.NoError(t, err)
	require.Equal(t, []replay.Move{{Partition: 0, Committed: -1, To: 0, End: 1}}, moves)
	require.Contains(t, out.String(), "will handle 1 messages")
}

func TestParseFrom(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "-1", "yesterday", "2026-01-31", "begin"} {
		_, err := replay.ParseFrom(s)
		require.ErrorContains(t, err, "--from", s)
	}
}
