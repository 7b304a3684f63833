package relay

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	leading   prometheus.Gauge
	depth     prometheus.Gauge
	oldest    prometheus.Gauge
	published prometheus.Counter
	pruned    prometheus.Counter

	deadLetters  prometheus.Counter
	lettersThere prometheus.Gauge
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		leading: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "atlas_relay_leading", Help: "1 while this relay is the one that publishes.",
		}),
		depth: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "atlas_outbox_depth", Help: "Events that wait to be published, counted up to 100000; every relay reports it.",
		}),
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "atlas_outbox_oldest_age_seconds", Help: "Age of the oldest event that waits to be published; every relay reports it.",
		}),
		published: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "atlas_relay_published_total", Help: "Events published to Kafka.",
		}),
		pruned: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "atlas_relay_pruned_total", Help: "Rows removed from the outbox that had been kept after they were published.",
		}),
		deadLetters: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "atlas_relay_dead_letters_total", Help: "Events that Kafka refused for good; they went from the outbox to the dead letters.",
		}),
		lettersThere: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "atlas_outbox_dead_letters", Help: "Events among the outbox's dead letters, counted up to 100000; every relay reports it.",
		}),
	}
	if registerer != nil {
		registerer.MustRegister(m.leading, m.depth, m.oldest, m.published, m.pruned, m.deadLetters, m.lettersThere)
	}
	return m
}

func (m *metrics) backlog(depth, oldestSeconds, deadLetters float64) {
	m.depth.Set(depth)
	m.oldest.Set(oldestSeconds)
	m.lettersThere.Set(deadLetters)
}
