package rebuild

import "github.com/prometheus/client_golang/prometheus"

// Metrics tell of rebuilds in this process.
type Metrics struct {
	phase    *prometheus.GaugeVec
	seconds  *prometheus.CounterVec
	items    prometheus.Counter
	changes  prometheus.Counter
	rebuilds *prometheus.CounterVec
}

// NewMetrics registers the metrics; registerer may be nil.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	m := &Metrics{
		phase: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "atlas_search_rebuild_phase", Help: "1 for the phase that a rebuild of the search index is in, on the worker that does it.",
		}, []string{"phase"}),
		seconds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atlas_search_rebuild_seconds_total", Help: "Time that rebuilds of the search index spent, by phase.",
		}, []string{"phase"}),
		items: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "atlas_search_rebuild_items_total", Help: "Items that were sent to a new search index.",
		}),
		changes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "atlas_search_rebuild_changes_total", Help: "Items that were sent to a new search index again, because they changed meanwhile.",
		}),
		rebuilds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atlas_search_rebuild_outcomes_total", Help: "How rebuilds of the search index went: succeeded, restarted, refused.",
		}, []string{"outcome"}),
	}
	if registerer != nil {
		registerer.MustRegister(m.phase, m.seconds, m.items, m.changes, m.rebuilds)
	}
	return m
}

func (m *Metrics) enter(phase string) {
	m.phase.Reset()
	if phase != "" {
		m.phase.WithLabelValues(phase).Set(1)
	}
}
