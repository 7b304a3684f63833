package dev

import (
	"context"
	"net/url"
	"path/filepath"
	"time"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/search"
	"github.com/atlas-platform/atlas/internal/telemetry"
	"github.com/atlas-platform/atlas/services/api"
	"github.com/atlas-platform/atlas/services/audit"
	"github.com/atlas-platform/atlas/services/indexer"
	"github.com/atlas-platform/atlas/services/relay"
	"github.com/atlas-platform/atlas/services/worker"
)

const (
	maxConns     = 20
	drainTimeout = 20 * time.Second
)

// runRoles runs every role until ctx is done, and stops them in the order in which they feed each other.
func (s *settings) runRoles(ctx context.Context, o Options, listening func(address string)) error {
	pool, err := postgres.Open(ctx, s.databaseURL, maxConns)
	if err != nil {
		return err
	}
	defer pool.Close()
	registry := telemetry.NewRegistry()
	health := telemetry.NewHealth(map[string]telemetry.Check{"database": pool.Ping})
	apiConfig, err := config.LoadFrom[api.Config](map[string]string{"LISTEN_ADDR": s.listener.Addr().String(), "JWT_SIGNING_KEY_FILE": s.signingKey})
	if err != nil {
		return err
	}
	store, err := objects.Open((&url.URL{Scheme: "file", Path: filepath.ToSlash(s.files)}).String())
	if err != nil {
		return err
	}
	events := config.Kafka{Brokers: s.brokers, Topic: topic}

	publisher := relay.New(relay.Config{Brokers: s.brokers, Topic: topic}, relay.Deps{Logger: o.Logger, Pool: pool, Registerer: registry})
	waker := jobs.NewWaker(o.Logger, pool)
	deps := api.Deps{
		Logger: o.Logger, Pool: pool, Objects: store, Searcher: search.NewPostgres(pool), Registry: registry, Health: health,
		Nudge: publisher.Nudge, WakeWorkers: waker.Nudge, Listener: s.listener, Listening: listening,
	}
	trail := audit.New(audit.Config{Kafka: events, GroupPrefix: "atlas"}, audit.Deps{Logger: o.Logger, Pool: pool, Registerer: registry})
	index := indexer.New(indexer.Config{Kafka: events, GroupPrefix: "atlas"}, indexer.Deps{Logger: o.Logger, Pool: pool})
	work := worker.New(worker.Config{}, worker.Deps{Logger: o.Logger, Pool: pool, Objects: store, Registerer: registry})
	return telemetry.RunInOrder(ctx, drainTimeout,
		func(ctx context.Context) error { return api.Run(ctx, apiConfig, deps) },
		waker.Run, work.Run, publisher.Run, index.Run, trail.Run)
}
