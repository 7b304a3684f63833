package worker

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	running  prometheus.Gauge
	outcomes *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		running: prometheus.NewGauge(prometheus.GaugeOpts{Name: "atlas_jobs_running", Help: "Jobs that this worker runs now."}),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atlas_job_attempts_total", Help: "Attempts by how they ended: succeeded, retried, failed, handed_back, lease_lost, unsettled.",
		}, []string{"type", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "atlas_job_attempt_seconds", Help: "Duration of attempts.", Buckets: prometheus.ExponentialBuckets(0.01, 4, 9),
		}, []string{"type"}),
	}
	if registerer != nil {
		registerer.MustRegister(m.running, m.outcomes, m.seconds)
	}
	return m
}
