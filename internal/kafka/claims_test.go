package kafka_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
)

// figure is a gauge's value, or how many observations a histogram has and their sum.
type figure struct {
	value, sum float64
	count      uint64
}

// metric returns the metric with this name and these label values; ok is false when there is none.
func metric(t *testing.T, registry *prometheus.Registry, name string, labels map[string]string) (f figure, ok bool) {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			fits := family.GetName() == name
			for _, l := range m.GetLabel() {
				want, asked := labels[l.GetName()]
				fits = fits && (!asked || want == l.GetValue())
			}
			if fits {
				return figure{m.GetGauge().GetValue(), m.GetHistogram().GetSampleSum(), m.GetHistogram().GetSampleCount()}, true
			}
		}
	}
	return figure{}, false
}

func TestAPartitionThatIsStuckShowsItsGrowingLagAndAge(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, brokers []string) {
		topic := kafkatest.NewTopic(t, brokers, 2)
		opts := options(t, brokers, topic)
		registry := prometheus.NewRegistry()
		opts.Registerer, opts.AskInterval = registry, 10*time.Millisecond
		mend := make(chan struct{})
		consumer := kafka.NewConsumer(opts, kafka.HandlerFunc(func(context.Context, []*sarama.ConsumerMessage) ([]kafka.Poison, error) {
			select {
			case <-mend:
				return nil, nil
			default:
				return nil, errors.New("the dependency is away")
			}
		}))
		stop := kafkatest.Start(t, consumer.Run)
		lag := func() (total float64) {
			for _, partition := range []string{"0", "1"} {
				m, ok := metric(t, registry, "atlas_consumer_lag_messages", map[string]string{"topic": topic, "partition": partition, "group": opts.Group})
				if !ok {
					return -1
				}
				total += m.value
			}
			return total
		}
		waiting := func() (longest float64) {
			for _, partition := range []string{"0", "1"} {
				m, _ := metric(t, registry, "atlas_consumer_waiting_seconds", map[string]string{"partition": partition})
				longest = max(longest, m.value)
			}
			return longest
		}
		becomes := func(want float64) {
			require.Eventually(t, func() bool { return lag() == want }, patience, 5*time.Millisecond)
		}
		becomes(0) // known although nothing was ever consumed
		require.Zero(t, waiting())
		kafkatest.Send(t, brokers, topic, "k", values(3)...)
		becomes(3)
		kafkatest.Send(t, brokers, topic, "k", values(2)...)
		becomes(5) // nothing was handled meanwhile
		require.Eventually(t, func() bool { return waiting() > 0 }, patience, time.Millisecond)
		before := waiting()
		require.Eventually(t, func() bool { return waiting() > before }, patience, time.Millisecond)
		close(mend)
		becomes(0)
		require.Eventually(t, func() bool { return waiting() == 0 }, patience, time.Millisecond)
		stop()
		require.Equal(t, -1.0, lag()) // another member's to tell
	})
}

func TestAgesAreOfTheEventsNotOfTheRecords(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Fake(t)
	topic := kafkatest.NewTopic(t, brokers, 1)
	opts := options(t, brokers, topic)
	registry := prometheus.NewRegistry()
	opts.Registerer, opts.OccurredAt = registry, kafka.EventTime
	occurred := time.Now().Add(-time.Hour)
	kafkatest.Send(t, brokers, topic, "k", []byte(`{"occurred_at":"`+occurred.UTC().Format(time.RFC3339Nano)+`"}`), []byte("says nothing"))
	r := newRecorder(nil)
	kafkatest.Start(t, kafka.NewConsumer(opts, r).Run)
	r.wait(t, 2)
	committed(t, opts, 2)
	age, _ := metric(t, registry, "atlas_consumer_event_age_seconds", map[string]string{"group": opts.Group})
	require.EqualValues(t, 2, age.count)
	require.InDelta(t, time.Hour.Seconds(), age.sum, 120)
}
