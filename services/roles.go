package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/elastic/go-elasticsearch/v8"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/exitcode"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/search"
	"github.com/atlas-platform/atlas/internal/telemetry"
	"github.com/atlas-platform/atlas/services/api"
	"github.com/atlas-platform/atlas/services/audit"
	"github.com/atlas-platform/atlas/services/indexer"
	"github.com/atlas-platform/atlas/services/migrate"
	"github.com/atlas-platform/atlas/services/relay"
	"github.com/atlas-platform/atlas/services/worker"
)

type apiConfig struct {
	API           api.Config
	Database      config.Database
	Kafka         config.Kafka
	Outbox        outboxConfig
	Elasticsearch config.Elasticsearch
	Objects       config.Objects
	Ops           config.Ops
	Log           config.Log
}

type outboxConfig struct {
	Retention time.Duration `env:"OUTBOX_RETENTION" envDefault:"0s" help:"how long published events stay in the outbox, for inspection; by default they are removed at once"`
}

// Validate implements config.Validator.
func (c *outboxConfig) Validate() []error {
	if c.Retention < 0 {
		return []error{errors.New("OUTBOX_RETENTION is negative")}
	}
	return nil
}

func (c apiConfig) log() config.Log { return c.Log }

// runAPI hosts the API and the relay: the relay is nudged in process by every commit, and tells the one that leads.
func runAPI(ctx context.Context, cfg apiConfig, logger *slog.Logger) error {
	tuneMemory()
	pool, err := postgres.OpenFull(ctx, cfg.Database.URL, cfg.Database.MaxConns)
	if err != nil {
		return err
	}
	defer closePool(pool)
	es, err := newElasticsearch(cfg.Elasticsearch)
	if err != nil {
		return err
	}
	store, err := openObjects(cfg.Objects)
	if err != nil {
		return err
	}
	registry := telemetry.NewRegistry()
	publisher := relay.New(relay.Config{Brokers: cfg.Kafka.Brokers, Secure: cfg.Kafka.Secure, Topic: cfg.Kafka.Topic, Retention: cfg.Outbox.Retention},
		relay.Deps{Logger: logger, Pool: pool, Registerer: registry})
	waker := jobs.NewWaker(logger, pool)
	// Kafka and Elasticsearch are no readiness checks: the API takes writes and answers searches without them.
	var listening atomic.Bool
	health := telemetry.NewHealth(map[string]telemetry.Check{"database": pool.Ping, "listener": func(context.Context) error {
		if !listening.Load() {
			return errors.New("the REST API does not listen yet")
		}
		return nil
	}})
	gate := search.NewGate(pool, cfg.Elasticsearch.Index)
	deps := api.Deps{
		Logger: logger, Pool: pool, Objects: store, Registry: registry, Health: health, Nudge: publisher.Nudge, WakeWorkers: waker.Nudge,
		ShutdownTimeout: cfg.Ops.ShutdownTimeout, Listening: func(string) { listening.Store(true) },
		Searcher: search.NewFallback(search.NewElasticsearch(es, cfg.Elasticsearch.Index).In(cfg.Elasticsearch.Language).Behind(gate), search.NewPostgres(pool)).
			Behind(gate),
	}
	// The relay outlives the API's drain, so that what the last requests wrote is published too.
	return telemetry.RunInOrder(ctx, cfg.Ops.ShutdownTimeout,
		func(ctx context.Context) error { return api.Run(ctx, cfg.API, deps) },
		waker.Run, publisher.Run,
		func(ctx context.Context) error {
			return telemetry.ServeOps(ctx, cfg.Ops.Addr, health, registry, logger)
		},
	)
}

// closePool waits a moment only: after a drain that ran out of time somebody may still hold a connection.
func closePool(pool *pgxpool.Pool) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		pool.Close()
	}()
	select {
	case <-closed:
	case <-time.After(time.Second):
	}
}

func newElasticsearch(cfg config.Elasticsearch) (*elasticsearch.Client, error) {
	settings, err := cfg.Client()
	if err != nil {
		return nil, err
	}
	return elastic.NewClient(settings)
}

// openObjects returns nil when there is no object store.
func openObjects(cfg config.Objects) (objects.Store, error) {
	if cfg.StoreURL == "" {
		return nil, nil
	}
	store, err := objects.Open(cfg.StoreURL)
	if err != nil {
		return nil, fmt.Errorf("OBJECT_STORE_URL: %w", err)
	}
	return store, nil
}

// part is a role that works until its context ends.
type part interface {
	Run(ctx context.Context) error
	Checks() map[string]telemetry.Check
}

// host gives a part its database and metrics, and runs it beside its operations server, which ends last.
func host(ctx context.Context, database config.Database, ops config.Ops, logger *slog.Logger,
	build func(*pgxpool.Pool, *prometheus.Registry) (part, error),
) error {
	pool, err := postgres.Open(ctx, database.URL, database.MaxConns)
	if err != nil {
		return err
	}
	defer closePool(pool)
	registry := telemetry.NewRegistry()
	p, err := build(pool, registry)
	if err != nil {
		return err
	}
	health := telemetry.NewHealth(p.Checks())
	return telemetry.RunInOrder(ctx, ops.ShutdownTimeout, p.Run,
		func(ctx context.Context) error { return telemetry.ServeOps(ctx, ops.Addr, health, registry, logger) })
}

type indexerConfig struct{ indexer.Config }

func (c indexerConfig) log() config.Log { return c.Log }

func runIndexer(ctx context.Context, cfg indexerConfig, logger *slog.Logger) error {
	return host(ctx, cfg.Database, cfg.Ops, logger, func(pool *pgxpool.Pool, registry *prometheus.Registry) (part, error) {
		es, err := newElasticsearch(cfg.Elasticsearch)
		if err != nil {
			return nil, err
		}
		return indexer.New(cfg.Config, indexer.Deps{Logger: logger, Pool: pool, Elasticsearch: es, Registerer: registry}), nil
	})
}

type auditConfig struct{ audit.Config }

func (c auditConfig) log() config.Log { return c.Log }

func runAudit(ctx context.Context, cfg auditConfig, logger *slog.Logger) error {
	return host(ctx, cfg.Database, cfg.Ops, logger, func(pool *pgxpool.Pool, registry *prometheus.Registry) (part, error) {
		return audit.New(cfg.Config, audit.Deps{Logger: logger, Pool: pool, Registerer: registry}), nil
	})
}

type workerConfig struct{ worker.Config }

func (c workerConfig) log() config.Log { return c.Log }

func runWorker(ctx context.Context, cfg workerConfig, logger *slog.Logger) error {
	return host(ctx, cfg.Database, cfg.Ops, logger, func(pool *pgxpool.Pool, registry *prometheus.Registry) (part, error) {
		es, err := newElasticsearch(cfg.Elasticsearch)
		if err != nil {
			return nil, err
		}
		store, err := openObjects(cfg.Objects)
		if err != nil {
			return nil, err
		}
		return worker.New(cfg.Config, worker.Deps{Logger: logger, Pool: pool, Elasticsearch: es, Objects: store, Registerer: registry}), nil
	})
}

type migrateConfig struct{ migrate.Config }

func (c migrateConfig) log() config.Log { return c.Log }

func runMigrate(ctx context.Context, cfg migrateConfig, logger *slog.Logger) error {
	err := migrate.Run(ctx, cfg.Config, logger)
	var ahead *postgres.SchemaAheadError
	if errors.As(err, &ahead) {
		return &exitError{code: exitcode.SchemaAhead, err: err}
	}
	return err
}
