package produce_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/services/relay/produce"
)

func newProducer(t *testing.T, brokers []string, topic string) *produce.Producer {
	t.Helper()
	client, err := sarama.NewClient(brokers, kafka.NewProducerConfig("test"))
	require.NoError(t, err)
	p, err := produce.New(client, topic, produce.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func record(key string, value []byte) *sarama.Record {
	return &sarama.Record{Key: []byte(key), Value: value, Headers: []*sarama.RecordHeader{{Key: []byte("h"), Value: []byte(key)}}}
}

// numbered are n records each of so many keys, in turns, with values that count up by key.
func numbered(keys, n int) []*sarama.Record {
	var out []*sarama.Record
	for i := range n {
		for k := range keys {
			out = append(out, record("key-"+strconv.Itoa(k), []byte(strconv.Itoa(i))))
		}
	}
	return out
}

// requireCounting checks that each key's values in the topic are 0, 1, 2 …, each once.
func requireCounting(t *testing.T, messages []*sarama.ConsumerMessage) {
	t.Helper()
	next := map[string]int{}
	for _, m := range messages {
		key := string(m.Key)
		require.Equal(t, strconv.Itoa(next[key]), string(m.Value), key)
		require.Equal(t, key, kafkatest.Header(m, "h"))
		next[key]++
	}
}

func TestRecordsArriveInOrder(t *testing.T) {
	t.Parallel()
	for name, brokers := range map[string]func(testing.TB) []string{"fake": kafkatest.Fake, "real": kafkatest.Real} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			brokers := brokers(t)
			topic := kafkatest.NewTopic(t, brokers, 3)
			p, all := newProducer(t, brokers, topic), numbered(10, 30)
			for _, part := range [][]*sarama.Record{all[:1], all[1:100], all[100:]} {
				out := p.Send(t.Context(), part)
				require.NoError(t, out.Err)
				require.Empty(t, out.Refused)
				require.Len(t, out.Sent, len(part))
			}
			requireCounting(t, kafkatest.Read(t, brokers, topic, len(all)))
		})
	}
}

func TestKeysGoWhereSaramaSendsThem(t *testing.T) {
	t.Parallel()
	theirs := sarama.NewHashPartitioner("t")
	for range 200 {
		key, n := uuid.NewString(), int32(7)
		want, err := theirs.Partition(&sarama.ProducerMessage{Key: sarama.StringEncoder(key)}, n)
		require.NoError(t, err)
		require.EqualValues(t, want, produce.Partition([]byte(key), int(n)))
	}
}

// TestWhatIsTooLargeIsRefusedAlone has a broker that takes less than a batch: it is cut until only the culprits are left.
func TestWhatIsTooLargeIsRefusedAlone(t *testing.T) {
	t.Parallel()
	brokers, topic := kafkatest.Real(t), "test-"+uuid.NewString()
	require.NoError(t, kafka.EnsureTopic(t.Context(), brokers, kafka.TopicSpec{
		Name: topic, Partitions: 2, ReplicationFactor: 1, Config: map[string]string{"max.message.bytes": "2000"},
	}))
	noise := make([]byte, 5000) // that does not compress
	_, _ = rand.Read(noise)
	all := numbered(8, 25)
	for _, at := range []int{3, 90, 91, 150} {
		all[at] = record(string(all[at].Key), noise)
	}
	all[199] = record("key-7", bytes.Repeat([]byte("x"), 17<<20)) // is not even tried
	out := newProducer(t, brokers, topic).Send(t.Context(), all)
	require.NoError(t, out.Err)
	require.Len(t, out.Sent, 195)
	require.Len(t, out.Refused, 5)
	for _, at := range []int{3, 90, 91, 150, 199} {
		require.ErrorIs(t, out.Refused[at], sarama.ErrMessageSizeTooLarge)
	}
	last := map[string]int{}
	for _, m := range kafkatest.Read(t, brokers, topic, 195) {
		n, err := strconv.Atoi(string(m.Value))
		require.NoError(t, err)
		require.GreaterOrEqual(t, n, last[string(m.Key)])
		last[string(m.Key)] = n
	}
}

// fake is a broker that answers produce requests as control says, until control is done with it.
func fake(t *testing.T, control func(*kmsg.ProduceRequest) (kmsg.Response, error, bool)) []string {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return control(r.(*kmsg.ProduceRequest)) //nolint:forcetypeassert // by its key
	})
	return cluster.ListenAddrs()
}

func TestALostConnectionMakesNoDuplicate(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	brokers := fake(t, func(*kmsg.ProduceRequest) (kmsg.Response, error, bool) {
		if requests.Add(1)%2 == 1 {
			return nil, errors.New("the connection breaks"), true
		}
		return nil, nil, false
	})
	topic := kafkatest.NewTopic(t, brokers, 2)
	p, all := newProducer(t, brokers, topic), numbered(6, 20)
	for i := range 4 {
		out := p.Send(t.Context(), all[30*i:30*i+30])
		require.NoError(t, out.Err)
		require.Len(t, out.Sent, 30)
	}
	require.Greater(t, requests.Load(), int32(4))
	requireCounting(t, kafkatest.Read(t, brokers, topic, len(all)))
}

// TestNothingPassesWhatFailed has one partition fail for good: what comes after it there stays too, the other partition goes on.
func TestNothingPassesWhatFailed(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]sarama.KError{"for good": sarama.ErrTopicAuthorizationFailed, "for long": sarama.ErrNotLeaderForPartition} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			brokers := fake(t, func(r *kmsg.ProduceRequest) (kmsg.Response, error, bool) {
				answer := r.ResponseKind().(*kmsg.ProduceResponse) //nolint:forcetypeassert // by its key
				for _, sent := range r.Topics {
					topic := kmsg.NewProduceResponseTopic()
					topic.Topic, topic.TopicID = sent.Topic, sent.TopicID
					for _, p := range sent.Partitions {
						partition := kmsg.NewProduceResponseTopicPartition()
						partition.Partition = p.Partition
						if p.Partition == 0 {
							partition.ErrorCode = int16(code)
						}
						topic.Partitions = append(topic.Partitions, partition)
					}
					answer.Topics = append(answer.Topics, topic)
				}
				return answer, nil, true
			})
			topic := kafkatest.NewTopic(t, brokers, 2)
			client, err := sarama.NewClient(brokers, kafka.NewProducerConfig("test"))
			require.NoError(t, err)
			p, err := produce.New(client, topic, produce.Config{RetryFor: 200 * time.Millisecond})
			require.NoError(t, err)
			defer p.Close()           //nolint:errcheck // nothing is pending
			all := numbered(10, 3000) // several requests for each partition
			out := p.Send(t.Context(), all)
			require.ErrorIs(t, out.Err, code)
			var want []int
			for i, r := range all {
				if produce.Partition(r.Key, 2) == 1 {
					want = append(want, i)
				}
			}
			require.Equal(t, want, out.Sent)
		})
	}
}

func TestAMissingTopicIsAnError(t *testing.T) {
	t.Parallel()
	out := newProducer(t, kafkatest.Real(t), "test-"+uuid.NewString()).Send(context.Background(), numbered(2, 2))
	require.ErrorIs(t, out.Err, sarama.ErrUnknownTopicOrPartition, fmt.Sprint(out))
	require.Empty(t, out.Sent)
}
