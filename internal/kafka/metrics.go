package kafka

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	messages    prometheus.Counter
	deadLetters prometheus.Counter
	retries     prometheus.Counter
	size        prometheus.Histogram
	seconds     prometheus.Histogram
	age         prometheus.Histogram
}

// newMetrics registers the consumer's metrics, and those of its claims, under a constant label with the group, so that several consumers can
// share a registry.
func newMetrics(registerer prometheus.Registerer, group string, places *claims) *metrics {
	m := &metrics{
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
		age: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "atlas_consumer_event_age_seconds", Help: "Time from an event's occurrence until its work is done.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2.5, 15), // to half an hour
		}),
	}
	if registerer != nil {
		prometheus.WrapRegistererWith(prometheus.Labels{"group": group}, registerer).
			MustRegister(m.messages, m.deadLetters, m.retries, m.size, m.seconds, m.age, places)
	}
	return m
}

func (m *metrics) batch(messages, poison int, took time.Duration) {
	m.messages.Add(float64(messages))
	m.deadLetters.Add(float64(poison))
	m.size.Observe(float64(messages))
	m.seconds.Observe(took.Seconds())
}
