// Package worker is the role that runs background jobs. It hosts the janitor as well.
package worker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/elastic/go-elasticsearch/v8"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/enrich"
	"github.com/atlas-platform/atlas/internal/fetch"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/tasks"
	"github.com/atlas-platform/atlas/internal/telemetry"
	"github.com/atlas-platform/atlas/services/worker/janitor"
)

// Config is the role's configuration.
type Config struct {
	config.Database
	config.Elasticsearch
	config.Trash
	config.Jobs
	config.Enrich
	config.Objects
	config.Files
	config.Ops
	config.Log
	// What follows is not read from the environment; zero values mean the defaults.
	Engine          jobs.Config
	JanitorInterval time.Duration
	EnrichInterval  time.Duration
	Fetch           fetch.Config
}

// Deps are what the worker uses. Registerer may be nil.
type Deps struct {
	Logger *slog.Logger
	Pool   *pgxpool.Pool
	// Elasticsearch is nil where search is PostgreSQL's.
	Elasticsearch *elasticsearch.Client
	// Objects is nil where there is no object store.
	Objects    objects.Store
	Registerer prometheus.Registerer
}

// Service is the worker.
type Service struct {
	cfg     Config
	deps    Deps
	engine  *jobs.Engine
	janitor *janitor.Janitor
	wanted  *enrich.Queue
	fetcher *fetch.Fetcher
}

// New makes the worker; Run starts it.
func New(cfg Config, deps Deps) *Service {
	pages := cfg.Fetch
	pages.Policy.Allow, pages.Policy.Deny = cfg.Networks()
	pages.Contact = cfg.Contact
	fetcher := fetch.New(pages)
	s := &Service{
		cfg: cfg, deps: deps, fetcher: fetcher,
		engine: jobs.New(cfg.Engine, jobs.Deps{
			Logger: deps.Logger, Pool: deps.Pool, Registerer: deps.Registerer,
			Tasks: tasks.All(tasks.Deps{
				Logger: deps.Logger, Pool: deps.Pool, Elasticsearch: deps.Elasticsearch, Alias: cfg.Index, Objects: deps.Objects, Registerer: deps.Registerer,
				Fetcher: fetcher,
			}),
		}),
		janitor: janitor.New(janitor.Config{Retention: cfg.Retention, Jobs: cfg.JobRetention, Files: cfg.FileRetention, Interval: cfg.JanitorInterval}, janitor.Deps{
			Logger: deps.Logger, Pool: deps.Pool, Objects: deps.Objects, Registerer: deps.Registerer,
		}),
	}
	s.wanted = enrich.NewQueue(deps.Logger, deps.Pool, cfg.EnrichInterval, s.engine.Nudge)
	return s
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
	var janitors sync.WaitGroup
	defer janitors.Wait()
	defer s.fetcher.Close()
	janitors.Go(func() { s.janitor.Run(ctx) })
	janitors.Go(func() { s.wanted.Run(ctx) })
	return s.engine.Run(ctx)
}
