package jobs

import (
	"context"
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atlas-platform/atlas/internal/pause"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

type metrics struct {
	running  prometheus.Gauge
	depth    *prometheus.GaugeVec
	oldest   *prometheus.GaugeVec
	outcomes *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	pickup   *prometheus.HistogramVec
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		running: prometheus.NewGauge(prometheus.GaugeOpts{Name: "atlas_jobs_running", Help: "Jobs that this worker runs now."}),
		depth: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "atlas_jobs", Help: "Unfinished jobs in the database: due, later (they wait for their time) and running; counted up to 100000 of a type.",
		}, []string{"type", "state"}),
		oldest: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "atlas_jobs_oldest_seconds", Help: "For how long the oldest job has been due or running.",
		}, []string{"type", "state"}),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atlas_job_attempts_total", Help: "Attempts by how they ended: succeeded, retried, failed, cancelled, handed_back, lease_lost, unsettled.",
		}, []string{"type", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "atlas_job_attempt_seconds", Help: "Duration of attempts.", Buckets: prometheus.ExponentialBuckets(0.01, 4, 9),
		}, []string{"type"}),
		pickup: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "atlas_job_pickup_seconds", Help: "Time from when a job was due until a worker claimed it.", Buckets: prometheus.ExponentialBuckets(0.002, 3, 12),
		}, []string{"type"}),
	}
	if registerer != nil {
		registerer.MustRegister(m.running, m.depth, m.oldest, m.outcomes, m.seconds, m.pickup)
	}
	return m
}

func (m *metrics) claimed(job *db.Job) {
	if job.AttemptStartedAt != nil {
		m.pickup.WithLabelValues(job.Type).Observe(job.AttemptStartedAt.Sub(job.RunAt).Seconds())
	}
}

// backlog states of the gauges.
var backlogStates = [...]string{"due", "later", "held", "running"}

// measure reports the backlog until ctx is done.
func (e *Engine) measure(ctx context.Context) {
	if e.deps.Registerer == nil {
		return
	}
	for ctx.Err() == nil {
		limited, cancel := e.limited(ctx)
		rows, err := e.queries.JobBacklog(limited, e.types)
		cancel()
		if ctx.Err() == nil {
			e.metrics.backlog(e.types, rows, err == nil)
		}
		_ = pause.For(ctx, e.cfg.Measure) // ctx is looked at above
	}
}

func (m *metrics) backlog(types []string, rows []db.JobBacklogRow, known bool) {
	unset := 0.0
	if !known {
		unset = math.NaN() // why is in the log of whatever needs the database
	}
	for _, name := range types {
		for _, state := range backlogStates {
			m.depth.WithLabelValues(name, state).Set(unset)
			m.oldest.WithLabelValues(name, state).Set(unset)
		}
	}
	for _, row := range rows {
		m.depth.WithLabelValues(row.Type, row.State).Set(float64(row.Jobs))
		m.oldest.WithLabelValues(row.Type, row.State).Set(row.OldestSeconds)
	}
}
