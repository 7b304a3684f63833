// Package worker runs background jobs from the jobs table. A job is leased, not owned: a worker that dies or stalls loses its lease, another one
// goes on from the job's checkpoint, and the first can't finish it any more. Every change of state and its event are one transaction. The worker
// also hosts the janitor.
package worker

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/elastic/go-elasticsearch/v8"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/telemetry"
	"github.com/atlas-platform/atlas/services/worker/janitor"
)

// claimPause is how long no jobs are claimed after the database failed.
const claimPause = 2 * time.Second

// Config is the role's configuration.
type Config struct {
	config.Database
	config.Elasticsearch
	config.Trash
	config.Ops
	config.Log
	// Engine is not read from the environment; zero values mean the defaults.
	Engine Engine
}

// Engine sets the pace of the worker.
type Engine struct {
	Concurrency  int           // jobs at the same time; default 4
	PollInterval time.Duration // how often an idle worker looks for jobs; default 100 ms
	Lease        time.Duration // how long a silent worker keeps a job; default 30 s
	RetryInitial time.Duration // wait after the first failed attempt, doubled with each; default 2 s
	RetryMax     time.Duration // longest wait between attempts; default 5 min
	// JanitorInterval is how often the janitor makes its round; zero means its own default.
	JanitorInterval time.Duration
}

func (e Engine) withDefaults() Engine {
	e.Concurrency = cmp.Or(e.Concurrency, 4)
	e.PollInterval = cmp.Or(e.PollInterval, 100*time.Millisecond)
	e.Lease = cmp.Or(e.Lease, 30*time.Second)
	e.RetryInitial = cmp.Or(e.RetryInitial, 2*time.Second)
	e.RetryMax = cmp.Or(e.RetryMax, 5*time.Minute)
	return e
}

// Deps are what the worker uses. Registerer may be nil.
type Deps struct {
	Logger *slog.Logger
	Pool   *pgxpool.Pool
	// Elasticsearch is nil where search is PostgreSQL's, which needs no reindexing.
	Elasticsearch *elasticsearch.Client
	Registerer    prometheus.Registerer
	// Tasks replaces the job types that the worker runs; nil means all of Atlas's.
	Tasks map[string]Task
}

// Task is the work of one job type. It is idempotent: it may run again from any checkpoint that it saved, or from the start. It returns soon after
// ctx is done. Its result is stored as JSON.
type Task interface {
	Run(ctx context.Context, x *Execution) (result any, err error)
}

// TaskFunc is a function that is a Task.
type TaskFunc func(ctx context.Context, x *Execution) (any, error)

// Run calls f.
func (f TaskFunc) Run(ctx context.Context, x *Execution) (any, error) { return f(ctx, x) }

// Service is the worker.
type Service struct {
	cfg     Config
	engine  Engine
	deps    Deps
	owner   string
	tasks   map[string]Task
	types   []string
	metrics *metrics
	janitor *janitor.Janitor
	running sync.WaitGroup
	slots   chan struct{}
	freed   chan struct{}
	// pausedUntil spares a database that is away.
	pausedUntil time.Time
}

// New makes the worker; Run starts it.
func New(cfg Config, deps Deps) *Service {
	engine := cfg.Engine.withDefaults()
	host, err := os.Hostname()
	if err != nil {
		host = "worker" // the id alone is unique
	}
	s := &Service{
		cfg: cfg, engine: engine, deps: deps, owner: host + "/" + uuid.NewString(), tasks: deps.Tasks, metrics: newMetrics(deps.Registerer),
		slots: make(chan struct{}, engine.Concurrency), freed: make(chan struct{}, 1),
		janitor: janitor.New(janitor.Config{Retention: cfg.Retention, Interval: engine.JanitorInterval}, janitor.Deps{
			Logger: deps.Logger, Pool: deps.Pool, Registerer: deps.Registerer,
		}),
	}
	if s.tasks == nil {
		s.tasks = map[string]Task{TypeReindex: newReindex(deps.Pool, s.index()), TypePurge: newPurge(deps.Pool)}
	}
	for name := range s.tasks {
		s.types = append(s.types, name)
	}
	return s
}

func (s *Service) index() *indexing.Indexer {
	if s.deps.Elasticsearch == nil {
		return indexing.NewRecorder(s.deps.Pool)
	}
	return indexing.New(s.deps.Pool, s.deps.Elasticsearch, s.cfg.Index)
}

// Checks are the role's readiness checks.
func (s *Service) Checks() map[string]telemetry.Check {
	checks := map[string]telemetry.Check{"database": s.deps.Pool.Ping}
	if s.deps.Elasticsearch != nil {
		checks["elasticsearch"] = func(ctx context.Context) error { return elastic.Ping(ctx, s.deps.Elasticsearch, s.cfg.Index) }
	}
	return checks
}

// Run works until ctx is done, then waits until every running job is finished or handed back.
func (s *Service) Run(ctx context.Context) error {
	poll := time.NewTicker(s.engine.PollInterval)
	defer poll.Stop()
	rescue := time.NewTicker(s.engine.Lease / 3)
	defer rescue.Stop()
	defer s.running.Wait()
	s.running.Go(func() { s.janitor.Run(ctx) })
	for {
		s.claim(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
		case <-s.freed:
		case <-rescue.C:
			s.rescue(ctx)
		}
	}
}

// claim takes as many jobs as there are free slots and starts them.
func (s *Service) claim(ctx context.Context) {
	free := cap(s.slots) - len(s.slots)
	if free == 0 || time.Now().Before(s.pausedUntil) {
		return
	}
	var jobs []db.Job
	limited, cancel := context.WithTimeout(ctx, s.engine.Lease/3)
	defer cancel()
	err := postgres.InTx(limited, s.deps.Pool, func(tx pgx.Tx) error {
		ctx, q := limited, db.New(tx)
		var err error
		jobs, err = q.ClaimJobs(ctx, db.ClaimJobsParams{
			Owner: s.owner, LeaseSeconds: s.engine.Lease.Seconds(), Types: s.types, BatchSize: int32(free), //nolint:gosec // a handful
		})
		if err != nil {
			return fmt.Errorf("claim jobs: %w", err)
		}
		return writeUpdates(ctx, q, jobs)
	})
	if err != nil {
		if ctx.Err() == nil {
			s.deps.Logger.WarnContext(ctx, "claiming jobs failed", "error", err)
			s.pausedUntil = time.Now().Add(claimPause)
		}
		return
	}
	for i := range jobs {
		s.slots <- struct{}{}
		s.metrics.running.Inc()
		s.running.Go(func() {
			defer func() {
				<-s.slots
				s.metrics.running.Dec()
				select {
				case s.freed <- struct{}{}:
				default:
				}
			}()
			s.execute(ctx, jobs[i])
		})
	}
}

// rescue puts jobs of dead workers back into the queue.
func (s *Service) rescue(ctx context.Context) {
	var jobs []db.Job
	limited, cancel := context.WithTimeout(ctx, s.engine.Lease/3)
	defer cancel()
	err := postgres.InTx(limited, s.deps.Pool, func(tx pgx.Tx) error {
		ctx, q := limited, db.New(tx)
		var err error
		if jobs, err = q.RescueJobs(ctx, 100); err != nil {
			return fmt.Errorf("rescue jobs: %w", err)
		}
		return writeUpdates(ctx, q, jobs)
	})
	switch {
	case err != nil && ctx.Err() == nil:
		s.deps.Logger.WarnContext(ctx, "rescuing jobs failed", "error", err)
	case err == nil:
		for i := range jobs {
			s.metrics.outcomes.WithLabelValues(jobs[i].Type, "lease_lost").Inc()
			s.deps.Logger.WarnContext(traced(ctx, &jobs[i]), "job lost its worker", "job_id", jobs[i].ID, "type", jobs[i].Type, "state", jobs[i].State)
		}
	}
}

// retryWait is the wait after a failed attempt: doubled with each, between half and the whole of it, so that jobs that failed together don't
// come back together.
func (e Engine) retryWait(attempt int32) time.Duration {
	wait := e.RetryInitial
	for i := int32(1); i < attempt && wait < e.RetryMax; i++ {
		wait *= 2
	}
	wait = min(wait, e.RetryMax)
	return wait/2 + rand.N(wait/2+1) //nolint:gosec // spreads load, guards nothing
}
