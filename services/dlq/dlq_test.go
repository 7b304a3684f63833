package dlq_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/services/dlq"
)

// bundle is a topic whose consumers give up what says "bad".
type bundle struct {
	t       *testing.T
	brokers []string
	topic   string
	cfg     dlq.Config
}

func setup(t *testing.T, brokers []string) *bundle {
	t.Helper()
	b := &bundle{t: t, brokers: brokers, topic: kafkatest.NewTopic(t, brokers, 3)}
	b.cfg = dlq.Config{Kafka: config.Kafka{Brokers: brokers, Topic: b.topic}}
	return b
}

func onBoth(t *testing.T, test func(t *testing.T, b *bundle)) {
	t.Run("fake", func(t *testing.T) {
		t.Parallel()
		test(t, setup(t, kafkatest.Fake(t)))
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		test(t, setup(t, kafkatest.Real(t)))
	})
}

// consume gives up, in the group's name, every message for which reason is not empty. It returns a function that waits until n were handled in all.
func (b *bundle) consume(group string, reason func(*sarama.ConsumerMessage) string) (handled func(n int64)) {
	b.t.Helper()
	var count atomic.Int64
	kafkatest.Start(b.t, kafka.NewConsumer(kafka.Options{Brokers: b.brokers, Topic: b.topic, Group: b.topic + "-" + group, Logger: kafkatest.Logger(b.t)},
		kafka.HandlerFunc(func(_ context.Context, batch []*sarama.ConsumerMessage) ([]kafka.Poison, error) {
			var poison []kafka.Poison
			for _, msg := range batch {
				if r := reason(msg); r != "" {
					poison = append(poison, kafka.Poison{Message: msg, Reason: r})
				}
			}
			count.Add(int64(len(batch)))
			return poison, nil
		})).Run)
	return func(n int64) {
		b.t.Helper()
		require.Eventually(b.t, func() bool { return count.Load() >= n }, time.Minute, 5*time.Millisecond)
		require.Equal(b.t, n, count.Load())
	}
}

func (b *bundle) send(values ...string) {
	b.t.Helper()
	producer := kafkatest.Producer(b.t, b.brokers)
	for i, v := range values {
		_, _, err := producer.SendMessage(&sarama.ProducerMessage{
			Topic: b.topic, Key: sarama.StringEncoder(fmt.Sprint("key-", i)), Value: sarama.StringEncoder(v), Headers: []sarama.RecordHeader{
				{Key: []byte(kafka.HeaderEventType), Value: []byte("ItemCreated")}, {Key: []byte(kafka.HeaderTraceparent), Value: []byte("trace-" + v)},
			},
		})
		require.NoError(b.t, err)
	}
}

func (b *bundle) list(f dlq.Filter) (letters []dlq.Letter) {
	b.t.Helper()
	var out bytes.Buffer
	require.NoError(b.t, dlq.List(b.t.Context(), b.cfg, dlq.ListOptions{Filter: f, Limit: 100, JSON: true, Now: time.Now}, &out))
	require.NoError(b.t, json.Unmarshal(out.Bytes(), &letters))
	return letters
}

// listed waits until so many letters are listed.
func (b *bundle) listed(f dlq.Filter, n int) []dlq.Letter {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return len(b.list(f)) == n }, time.Minute, 20*time.Millisecond)
	return b.list(f)
}

func (b *bundle) replay(o dlq.ReplayOptions) dlq.Result {
	b.t.Helper()
	result, err := dlq.Replay(b.t.Context(), b.cfg, o, &bytes.Buffer{})
	require.NoError(b.t, err)
	return result
}

func TestLettersAreListedShownAndSentBackOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bundle) {
		var mended atomic.Bool
		judge := func(msg *sarama.ConsumerMessage) string {
			if strings.HasPrefix(string(msg.Value), "bad") && !mended.Load() {
				return "can't be handled:\n" + string(msg.Value)
			}
			return ""
		}
		indexed, audited := b.consume("indexer", judge), b.consume("audit", judge)
		b.send("good", "bad 1", "bad 2")
		letters := b.listed(dlq.Filter{}, 4)
		require.Len(t, b.list(dlq.Filter{Group: "audit"}), 2)
		require.Len(t, b.list(dlq.Filter{Group: b.topic + "-indexer", Reason: "BAD 1"}), 1)
		require.Empty(t, b.list(dlq.Filter{Type: "ItemDeleted"}))
		for i, l := range letters {
			require.Equal(t, "ItemCreated", l.EventType)
			require.Zero(t, l.Replays)
			require.True(t, i == 0 || !l.Time.After(letters[i-1].Time), "the newest first")
		}

		id, err := dlq.ParseID(letters[0].ID)
		require.NoError(t, err)
		var out bytes.Buffer
		require.NoError(t, dlq.Show(t.Context(), b.cfg, id, true, &out))
		require.Contains(t, out.String(), `"text": "bad `)
		require.Contains(t, out.String(), `"traceparent": "trace-bad`)
		out.Reset()
		require.NoError(t, dlq.Show(t.Context(), b.cfg, id, false, &out))
		require.Contains(t, out.String(), "dlq_source_topic: "+b.topic)
		require.ErrorContains(t, dlq.Show(t.Context(), b.cfg, dlq.ID{Offset: 99}, true, &out), "no dead letter 0/99")
		out.Reset()
		require.NoError(t, dlq.List(t.Context(), b.cfg, dlq.ListOptions{Limit: 3, Now: time.Now}, &out))
		require.Contains(t, out.String(), "and 1 older ones")

		dry := b.replay(dlq.ReplayOptions{DryRun: true})
		require.Len(t, dry.Letters, 4)
		require.Equal(t, 2, dry.Records)
		require.Len(t, b.list(dlq.Filter{}), 4)

		// Nothing is mended yet: what is sent back comes again, as letters that say so.
		first := b.replay(dlq.ReplayOptions{Filter: dlq.Filter{Reason: "bad 1", Group: "indexer"}})
		require.Len(t, first.Letters, 1)
		indexed(4)
		audited(4)
		b.listed(dlq.Filter{}, 5) // of the 4 one is marked, and each group has one again
		require.Len(t, b.list(dlq.Filter{Replayed: true}), 6)
		again := b.list(dlq.Filter{Reason: "bad 1", Group: "indexer"})
		require.Len(t, again, 1)
		require.Equal(t, 1, again[0].Replays)

		mended.Store(true)
		rest := b.replay(dlq.ReplayOptions{})
		require.Len(t, rest.Letters, 5)
		require.Equal(t, 3, rest.Records) // bad 1 from two places, bad 2 from one
		indexed(7)
		audited(7)
		require.Empty(t, b.list(dlq.Filter{}))
		require.Empty(t, b.replay(dlq.ReplayOptions{}).Letters) // all of them only once

		_, err = dlq.Replay(t.Context(), b.cfg, dlq.ReplayOptions{Filter: dlq.Filter{IDs: []dlq.ID{id}}}, &bytes.Buffer{})
		require.ErrorContains(t, err, "was not found")
		require.Len(t, b.replay(dlq.ReplayOptions{Filter: dlq.Filter{IDs: []dlq.ID{id}, Replayed: true}}).Letters, 1)

		messages := kafkatest.Read(t, b.brokers, b.topic, 8)
		for _, msg := range messages {
			require.Equal(t, "trace-"+string(msg.Value), kafkatest.Header(msg, kafka.HeaderTraceparent))
			require.Empty(t, kafkatest.Header(msg, kafka.HeaderDLQReason))
		}
	})
}

func TestDiscardedLettersAreDoneWith(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bundle) {
		handled := b.consume("indexer", func(msg *sarama.ConsumerMessage) string { return string(msg.Value) })
		b.send("bad 1", "bad 2")
		b.listed(dlq.Filter{}, 2)
		var out bytes.Buffer
		dry, err := dlq.Discard(t.Context(), b.cfg, dlq.ReplayOptions{Filter: dlq.Filter{Reason: "bad 1"}, DryRun: true}, &out)
		require.NoError(t, err)
		require.Len(t, dry.Letters, 1)
		require.Contains(t, out.String(), "1 letters would be discarded")
		require.Len(t, b.list(dlq.Filter{}), 2)
		done, err := dlq.Discard(t.Context(), b.cfg, dlq.ReplayOptions{Filter: dlq.Filter{Reason: "bad 1"}}, &out)
		require.NoError(t, err)
		require.Equal(t, dry.Letters, done.Letters)
		left := b.list(dlq.Filter{})
		require.Len(t, left, 1)
		require.Equal(t, "bad 2", left[0].Reason)
		require.Len(t, b.replay(dlq.ReplayOptions{}).Letters, 1)
		handled(3)
	})
}

// TestANoticeIsNotSentBack has a letter without its record, which was too large.
func TestANoticeIsNotSentBack(t *testing.T) {
	t.Parallel()
	b := setup(t, kafkatest.Fake(t))
	producer := kafkatest.Producer(t, b.brokers)
	header := func(key, value string) sarama.RecordHeader {
		return sarama.RecordHeader{Key: []byte(key), Value: []byte(value)}
	}
	for _, left := range []string{"1048000", ""} {
		m := &sarama.ProducerMessage{Topic: kafka.DeadLetterTopic(b.topic), Value: sarama.StringEncoder("x"), Headers: []sarama.RecordHeader{
			header(kafka.HeaderDLQTopic, b.topic), header(kafka.HeaderDLQPartition, "2"), header(kafka.HeaderDLQOffset, "7"),
		}}
		if left != "" {
			m.Value, m.Headers = nil, append(m.Headers, header(kafka.HeaderDLQLeft, left))
		}
		_, _, err := producer.SendMessage(m)
		require.NoError(t, err)
	}
	var out bytes.Buffer
	result, err := dlq.Replay(t.Context(), b.cfg, dlq.ReplayOptions{}, &out)
	require.ErrorContains(t, err, "1048000 bytes, was too large for the dead-letter topic and lies at "+b.topic+"/2/7 only")
	require.Len(t, result.Letters, 1, "the others are sent")
	require.Len(t, b.list(dlq.Filter{}), 1)
	_, err = dlq.Discard(t.Context(), b.cfg, dlq.ReplayOptions{}, &out)
	require.NoError(t, err)
	require.Empty(t, b.list(dlq.Filter{}))
}

func TestLettersOfAnotherTopicAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, kafkatest.Fake(t))
	kafkatest.Send(t, b.brokers, kafka.DeadLetterTopic(b.topic), "k", []byte("from nowhere"))
	_, err := dlq.Replay(t.Context(), b.cfg, dlq.ReplayOptions{}, &bytes.Buffer{})
	require.ErrorContains(t, err, "KAFKA_TOPIC")
}

// TestEventsOfALaterEnvelopeWaitForAnUpgrade has a consumer meet an envelope of version 2: it is a dead letter that says so, and after the upgrade it
// is handled.
func TestEventsOfALaterEnvelopeWaitForAnUpgrade(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bundle) {
		var upgraded atomic.Bool
		handled := b.consume("audit", func(msg *sarama.ConsumerMessage) string {
			if _, err := event.Decode(msg.Value); err != nil && !upgraded.Load() {
				return err.Error()
			}
			return ""
		})
		e, err := event.New(event.ItemCreated, event.Entity{Type: event.EntityItem, ID: uuid.New()}, event.Origin{}, time.Now(), event.ItemData{})
		require.NoError(t, err)
		e.Version = 2
		value, err := json.Marshal(e)
		require.NoError(t, err)
		b.send(string(value))
		require.Contains(t, b.listed(dlq.Filter{}, 1)[0].Reason, "version 2 is not supported, want 1")
		upgraded.Store(true)
		require.Len(t, b.replay(dlq.ReplayOptions{Filter: dlq.Filter{Reason: "version 2"}}).Letters, 1)
		handled(2)
		require.Empty(t, b.list(dlq.Filter{}))
	})
}

func TestParseID(t *testing.T) {
	t.Parallel()
	id, err := dlq.ParseID("3/17")
	require.NoError(t, err)
	require.Equal(t, dlq.ID{Partition: 3, Offset: 17}, id)
	for _, s := range []string{"", "3", "3/", "/3", "a/b", "-1/2", "1/-2", "1/2/3"} {
		_, err := dlq.ParseID(s)
		require.Error(t, err, s)
	}
}
