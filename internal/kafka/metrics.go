package kafka

import (
	"strconv"
	"time"

	"github.com/IBM/sarama"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	lagGauge    *prometheus.GaugeVec
	messages    prometheus.Counter
	deadLetters prometheus.Counter
	retries     prometheus.Counter
	size        prometheus.Histogram
	seconds     prometheus.Histogram
}

// newMetrics registers the consumer's metrics under a constant label with the group, so that several consumers can share a registry.
func newMetrics(registerer prometheus.Registerer, group string) *metrics {
	m := &metrics{
		lagGauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "atlas_consumer_lag_messages", Help: "Messages of a partition that are not handled yet, as of the last batch.",
		}, []string{"topic", "partition"}),
		messages: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "atlas_consumer_messages_total", Help: "Messages handled.",
		}),
		deadLetters: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "atlas_consumer_dead_letters_total", Help: "Messages moved to the dead-letter topic.",
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "atlas_consumer_retries_total", Help: "Batches that failed and were tried again.",
		}),
		size: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "atlas_consumer_batch_messages", Help: "Messages per batch.", Buckets: prometheus.ExponentialBuckets(1, 4, 6),
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "atlas_consumer_batch_seconds", Help: "Time to handle one batch.", Buckets: prometheus.ExponentialBuckets(0.002, 2.5, 9),
		}),
	}
	if registerer != nil {
		prometheus.WrapRegistererWith(prometheus.Labels{"group": group}, registerer).
			MustRegister(m.lagGauge, m.messages, m.deadLetters, m.retries, m.size, m.seconds)
	}
	return m
}

func (m *metrics) batch(messages, poison int, took time.Duration) {
	m.messages.Add(float64(messages))
	m.deadLetters.Add(float64(poison))
	m.size.Observe(float64(messages))
	m.seconds.Observe(took.Seconds())
}

func (m *metrics) lag(last *sarama.ConsumerMessage, highWaterMark int64) {
	m.lagGauge.WithLabelValues(last.Topic, strconv.Itoa(int(last.Partition))).Set(float64(max(highWaterMark-last.Offset-1, 0)))
}

// forget drops the lag of a partition that another consumer may own from now on.
func (m *metrics) forget(topic string, partition int32) {
	m.lagGauge.DeleteLabelValues(topic, strconv.Itoa(int(partition)))
}
