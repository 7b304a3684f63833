package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
)

const patience = 2 * time.Minute

// onBoth runs a test against a broker inside the process and against the real one.
func onBoth(t *testing.T, test func(t *testing.T, brokers []string)) {
	t.Helper()
	t.Run("fake", func(t *testing.T) {
		t.Parallel()
		test(t, kafkatest.Fake(t))
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		test(t, kafkatest.Real(t))
	})
}

// recorder is a handler that keeps what it was given.
type recorder struct {
	mu       sync.Mutex
	messages []string
	seen     chan struct{} // one for each message
	before   func(batch []*sarama.ConsumerMessage) ([]kafka.Poison, error)
}

func newRecorder(before func(batch []*sarama.ConsumerMessage) ([]kafka.Poison, error)) *recorder {
	return &recorder{seen: make(chan struct{}, 10_000), before: before}
}

func (r *recorder) Handle(_ context.Context, batch []*sarama.ConsumerMessage) ([]kafka.Poison, error) {
	var poison []kafka.Poison
	if r.before != nil {
		var err error
		if poison, err = r.before(batch); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, msg := range batch {
		r.messages = append(r.messages, string(msg.Value))
		r.seen <- struct{}{}
	}
	return poison, nil
}

func (r *recorder) wait(t *testing.T, n int) []string {
	t.Helper()
	limit := time.After(patience)
	for range n {
		select {
		case <-r.seen:
		case <-limit:
			require.Fail(t, "messages are missing")
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages)
}

func options(t *testing.T, brokers []string, topic string) kafka.Options {
	return kafka.Options{
		Brokers: brokers, Topic: topic, Group: "group-" + uuid.NewString(), Logger: kafkatest.Logger(t), Registerer: prometheus.NewRegistry(),
		RetryInitial: 5 * time.Millisecond, RetryMax: 20 * time.Millisecond, HandOver: time.Second,
	}
}

func values(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = fmt.Append(nil, i)
	}
	return out
}

func committed(t *testing.T, opts kafka.Options, want int64) {
	t.Helper()
	require.Eventually(t, func() bool {
		return kafkatest.Committed(t, opts.Brokers, opts.Group, opts.Topic, 0) == want
	}, patience, 20*time.Millisecond)
}

func TestConsumerHandlesEverythingInOrderAndGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, brokers []string) {
		topic := kafkatest.NewTopic(t, brokers, 1)
		opts := options(t, brokers, topic)
		opts.MaxMessages = 7
		kafkatest.Send(t, brokers, topic, "k", values(20)...)
		first := newRecorder(nil)
		consumer := kafka.NewConsumer(opts, first)
		require.Error(t, consumer.Ready(context.Background()))
		stop := kafkatest.Start(t, consumer.Run)
		got := first.wait(t, 20)
		for i, v := range got {
			require.Equal(t, fmt.Sprint(i), v)
		}
		require.NoError(t, consumer.Ready(context.Background()))
		committed(t, opts, 20)
		stop()
		require.Error(t, consumer.Ready(context.Background()))

		kafkatest.Send(t, brokers, topic, "k", []byte("next"))
		opts.Registerer = nil
		second := newRecorder(nil)
		kafkatest.Start(t, kafka.NewConsumer(opts, second).Run)
		require.Equal(t, []string{"next"}, second.wait(t, 1))
	})
}

func TestDeadLettersLieBesideTheirTopic(t *testing.T) {
	t.Parallel()
	require.Equal(t, "atlas.domain-events.v1.dlq", kafka.DeadLetterTopic("atlas.domain-events.v1"))
}

func TestConsumerBatches(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Fake(t)
	topic := kafkatest.NewTopic(t, brokers, 1)
	kafkatest.Send(t, brokers, topic, "k", values(10)...)
	for name, limit := range map[string]func(*kafka.Options){
		"by count": func(o *kafka.Options) { o.MaxMessages = 2 },
		"by bytes": func(o *kafka.Options) { o.MaxBytes = 4 }, // key and value are 2
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := options(t, brokers, topic)
			limit(&opts)
			r := newRecorder(func(batch []*sarama.ConsumerMessage) ([]kafka.Poison, error) {
				if len(batch) > 2 {
					return nil, fmt.Errorf("a batch of %d", len(batch))
				}
				return nil, nil
			})
			kafkatest.Start(t, kafka.NewConsumer(opts, r).Run)
			r.wait(t, 10)
		})
	}
}

func TestConsumerCommitsAfterTheWorkOnly(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, brokers []string) {
		topic := kafkatest.NewTopic(t, brokers, 1)
		opts := options(t, brokers, topic)
		kafkatest.Send(t, brokers, topic, "k", []byte("a"))
		entered := make(chan struct{})
		stop := kafkatest.Start(t, kafka.NewConsumer(opts, kafka.HandlerFunc(
			func(ctx context.Context, _ []*sarama.ConsumerMessage) ([]kafka.Poison, error) {
				close(entered)
				<-ctx.Done() // the consumer dies in the middle of its work
				return nil, ctx.Err()
			})).Run)
		<-entered
		require.EqualValues(t, -1, kafkatest.Committed(t, brokers, opts.Group, topic, 0))
		stop()
		require.EqualValues(t, -1, kafkatest.Committed(t, brokers, opts.Group, topic, 0))

		opts.Registerer = nil
		r := newRecorder(nil)
		kafkatest.Start(t, kafka.NewConsumer(opts, r).Run)
		require.Equal(t, []string{"a"}, r.wait(t, 1))
		committed(t, opts, 1)
	})
}

func TestConsumerRetriesABatchUntilItsDependencyIsBack(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, brokers []string) {
		topic := kafkatest.NewTopic(t, brokers, 1)
		opts := options(t, brokers, topic)
		kafkatest.Send(t, brokers, topic, "k", values(3)...)
		var tries int
		down := errors.New("the dependency is away")
		failed := make(chan struct{})
		back := make(chan struct{})
		r := newRecorder(func([]*sarama.ConsumerMessage) ([]kafka.Poison, error) {
			if tries++; tries == 3 {
				close(failed)
			}
			select {
			case <-back:
				return nil, nil
			default:
				return nil, down
			}
		})
		consumer := kafka.NewConsumer(opts, r)
		kafkatest.Start(t, consumer.Run)
		<-failed
		require.ErrorIs(t, consumer.Ready(context.Background()), down)
		require.EqualValues(t, -1, kafkatest.Committed(t, brokers, opts.Group, topic, 0))
		close(back)
		require.Equal(t, []string{"0", "1", "2"}, r.wait(t, 3))
		committed(t, opts, 3)
		require.NoError(t, consumer.Ready(context.Background()))
	})
}

func TestTryThatHangsIsEnded(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Fake(t)
	topic := kafkatest.NewTopic(t, brokers, 1)
	opts := options(t, brokers, topic)
	opts.HandleTimeout = 20 * time.Millisecond
	kafkatest.Send(t, brokers, topic, "k", values(1)...)
	done := make(chan struct{})
	var tries int
	kafkatest.Start(t, kafka.NewConsumer(opts, kafka.HandlerFunc(func(ctx context.Context, _ []*sarama.ConsumerMessage) ([]kafka.Poison, error) {
		if tries++; tries == 1 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		close(done)
		return nil, nil
	})).Run)
	<-done
	committed(t, opts, 1)
}

func TestOnePartitionThatWaitsIsNotForgottenForAnother(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Fake(t)
	topic := kafkatest.NewTopic(t, brokers, 2)
	stuck := errors.New("it can't be stored")
	handled, failed := make(chan struct{}, 100), make(chan struct{}, 1000)
	consumer := kafka.NewConsumer(options(t, brokers, topic), kafka.HandlerFunc(func(_ context.Context, batch []*sarama.ConsumerMessage) ([]kafka.Poison, error) {
		if batch[0].Partition == 0 {
			failed <- struct{}{}
			return nil, stuck
		}
		handled <- struct{}{}
		return nil, nil
	}))
	kafkatest.Start(t, consumer.Run)
	send := func(partition int32) {
		cfg := kafka.NewProducerConfig("test")
		cfg.Producer.Partitioner = sarama.NewManualPartitioner
		manual, err := sarama.NewSyncProducer(brokers, cfg)
		require.NoError(t, err)
		defer manual.Close() //nolint:errcheck // nothing is pending
		_, _, err = manual.SendMessage(&sarama.ProducerMessage{Topic: topic, Partition: partition, Value: sarama.StringEncoder("x")})
		require.NoError(t, err)
	}
	send(0)
	<-failed
	<-failed // so the first failure is known
	send(1)
	<-handled
	require.Never(t, func() bool { return consumer.Ready(context.Background()) == nil }, 50*time.Millisecond, time.Millisecond)
	require.ErrorIs(t, consumer.Ready(context.Background()), stuck)
}

func TestPoisonGoesToTheDeadLetterTopic(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, brokers []string) {
		topic := kafkatest.NewTopic(t, brokers, 1)
		opts := options(t, brokers, topic)
		producer := kafkatest.Producer(t, brokers)
		for _, v := range []string{"good", "bad", "good"} {
			_, _, err := producer.SendMessage(&sarama.ProducerMessage{
				Topic: topic, Key: sarama.StringEncoder("key"), Value: sarama.StringEncoder(v),
				Headers: []sarama.RecordHeader{{Key: []byte("traceparent"), Value: []byte("trace")}},
			})
			require.NoError(t, err)
		}
		r := newRecorder(func(batch []*sarama.ConsumerMessage) ([]kafka.Poison, error) {
			var poison []kafka.Poison
			for _, msg := range batch {
				if string(msg.Value) == "bad" {
					poison = append(poison, kafka.Poison{Message: msg, Reason: "it is bad"})
				}
			}
			return poison, nil
		})
		kafkatest.Start(t, kafka.NewConsumer(opts, r).Run)
		r.wait(t, 3)
		letters := kafkatest.Read(t, brokers, kafka.DeadLetterTopic(topic), 1)
		committed(t, opts, 3)
		require.Len(t, letters, 1)
		require.Equal(t, "key", string(letters[0].Key))
		require.Equal(t, "bad", string(letters[0].Value))
		for header, want := range map[string]string{
			kafka.HeaderDLQReason: "it is bad", kafka.HeaderDLQTopic: topic, kafka.HeaderDLQPartition: "0", kafka.HeaderDLQOffset: "1",
			kafka.HeaderDLQGroup: opts.Group, kafka.HeaderTraceparent: "trace",
		} {
			require.Equal(t, want, kafkatest.Header(letters[0], header), header)
		}
	})
}

func TestNothingIsCommittedWhileTheDeadLetterTopicIsMissing(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Real(t)
	topic := "test-" + uuid.NewString()
	ctx := context.Background()
	require.NoError(t, kafka.EnsureTopic(ctx, brokers, kafka.TopicSpec{Name: topic, Partitions: 1, ReplicationFactor: 1}))
	opts := options(t, brokers, topic)
	kafkatest.Send(t, brokers, topic, "k", []byte("bad"))
	r := newRecorder(func(batch []*sarama.ConsumerMessage) ([]kafka.Poison, error) {
		return []kafka.Poison{{Message: batch[0], Reason: "it is bad"}}, nil
	})
	kafkatest.Start(t, kafka.NewConsumer(opts, r).Run)
	r.wait(t, 2) // handled twice: the first time the letter was not delivered
	require.EqualValues(t, -1, kafkatest.Committed(t, brokers, opts.Group, topic, 0))
	require.NoError(t, kafka.EnsureTopic(ctx, brokers, kafka.TopicSpec{Name: kafka.DeadLetterTopic(topic), Partitions: 1, ReplicationFactor: 1}))
	kafkatest.Read(t, brokers, kafka.DeadLetterTopic(topic), 1)
	committed(t, opts, 1)
}

func TestTwoConsumersShareThePartitions(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, brokers []string) {
		const partitions, perKey = 4, 50
		topic := kafkatest.NewTopic(t, brokers, partitions)
		opts := options(t, brokers, topic)
		opts.MaxMessages = 10
		opts.Registerer = nil
		var mu sync.Mutex
		latest := map[string]int{}
		all := newRecorder(func(batch []*sarama.ConsumerMessage) ([]kafka.Poison, error) {
			mu.Lock()
			defer mu.Unlock()
			for _, msg := range batch {
				var n int
				_, err := fmt.Sscan(string(msg.Value), &n)
				if err != nil {
					return nil, err
				}
				latest[string(msg.Key)] = max(latest[string(msg.Key)], n)
			}
			return nil, nil
		})
		first := kafkatest.Start(t, kafka.NewConsumer(opts, all).Run)
		for k := range 8 {
			kafkatest.Send(t, brokers, topic, fmt.Sprintf("key-%d", k), values(perKey)...)
		}
		kafkatest.Start(t, kafka.NewConsumer(opts, all).Run)
		all.wait(t, 4*perKey)
		first() // the other takes over the rest
		require.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			for k := range 8 {
				if latest[fmt.Sprintf("key-%d", k)] != perKey-1 {
					return false
				}
			}
			return true
		}, patience, 20*time.Millisecond)
	})
}

func TestConsumerWaitsForBrokers(t *testing.T) {
	t.Parallel()
	opts := options(t, []string{"127.0.0.1:1"}, "any")
	consumer := kafka.NewConsumer(opts, newRecorder(nil))
	stop := kafkatest.Start(t, consumer.Run)
	require.Eventually(t, func() bool {
		err := consumer.Ready(context.Background())
		return err != nil && errors.Is(err, sarama.ErrOutOfBrokers)
	}, patience, 20*time.Millisecond)
	stop()
}

func TestEnsureTopicLeavesAnExistingTopicAlone(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, brokers []string) {
		topic := kafkatest.NewTopic(t, brokers, 3)
		require.NoError(t, kafka.EnsureTopic(context.Background(), brokers, kafka.TopicSpec{Name: topic, Partitions: 5, ReplicationFactor: 1}))
		client, err := sarama.NewClient(brokers, kafka.NewConfig("test"))
		require.NoError(t, err)
		defer func() { require.NoError(t, client.Close()) }()
		partitions, err := client.Partitions(topic)
		require.NoError(t, err)
		require.Len(t, partitions, 3)
	})
}
