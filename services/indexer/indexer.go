// Package indexer consumes domain events and keeps the search index in step with PostgreSQL. An event only says which item to look at: the
// document is always made from the current row.
package indexer

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/IBM/sarama"
	"github.com/elastic/go-elasticsearch/v8"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/indexing/keeper"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/telemetry"
)

// Config is the role's configuration.
type Config struct {
	config.Database
	config.Kafka
	config.Elasticsearch
	config.Ops
	config.Log
	GroupPrefix string `env:"KAFKA_GROUP_PREFIX" envDefault:"atlas" help:"the consumer group is <prefix>-indexer"`
}

// Deps are what the indexer uses; Registerer may be nil.
type Deps struct {
	Logger *slog.Logger
	Pool   *pgxpool.Pool
	// Elasticsearch is nil where PostgreSQL itself is searched.
	Elasticsearch *elasticsearch.Client
	Registerer    prometheus.Registerer
}

// Service is the indexer.
type Service struct {
	cfg      Config
	deps     Deps
	items    *indexing.Indexer
	consumer *kafka.Consumer
	keeper   *keeper.Keeper // nil where PostgreSQL itself is searched
}

// New makes the indexer; Run starts it.
func New(cfg Config, deps Deps) *Service {
	s := &Service{
		cfg: cfg, deps: deps, items: indexing.NewRecorder(deps.Pool),
	}
	if deps.Elasticsearch != nil {
		s.items = indexing.New(deps.Pool, deps.Elasticsearch, cfg.Index)
		s.keeper = keeper.New(keeper.Config{Alias: cfg.Index}, keeper.Deps{
			Logger: deps.Logger, Pool: deps.Pool, Elasticsearch: deps.Elasticsearch, Registerer: deps.Registerer,
		})
	}
	busy := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "atlas_indexer_busy_total", Help: "Bulk requests that Elasticsearch was too busy for (429); they are tried again.",
	})
	s.items.OnBusy(busy.Inc)
	if deps.Registerer != nil {
		deps.Registerer.MustRegister(busy)
	}
	s.consumer = kafka.NewConsumer(kafka.Options{
		Brokers: cfg.Brokers, Topic: cfg.Topic, Group: cfg.GroupPrefix + "-indexer", ClientID: "atlas-indexer", Secure: cfg.Secure,
		Logger: deps.Logger, Registerer: deps.Registerer, OccurredAt: kafka.EventTime,
	}, s)
	return s
}

// Run consumes until ctx is done and the batch at hand is finished or given back.
func (s *Service) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.consumer.Run(ctx) })
	if s.keeper != nil {
		group.Go(func() error { return s.keeper.Run(ctx) })
	}
	return group.Wait()
}

// Checks are the role's readiness checks.
func (s *Service) Checks() map[string]telemetry.Check {
	checks := map[string]telemetry.Check{"database": s.deps.Pool.Ping, "kafka": s.consumer.Ready}
	if s.deps.Elasticsearch != nil {
		checks["elasticsearch"] = func(ctx context.Context) error { return elastic.Ping(ctx, s.deps.Elasticsearch, s.cfg.Index) }
	}
	return checks
}

var _ kafka.Handler = (*Service)(nil)

// work is what a batch asks for, collapsed: each item once, with the newest message about it.
type work struct {
	items  map[uuid.UUID]itemWork
	poison []kafka.Poison
}

type itemWork struct {
	version int64
	message *sarama.ConsumerMessage
}

// Handle implements kafka.Handler.
func (s *Service) Handle(ctx context.Context, batch []*sarama.ConsumerMessage) ([]kafka.Poison, error) {
	w := plan(batch)
	targets := make([]indexing.Target, 0, len(w.items))
	for id, item := range w.items {
		targets = append(targets, indexing.Target{ItemID: id, Version: item.version})
	}
	rejections, err := s.items.Sync(ctx, targets)
	if err != nil {
		return nil, err
	}
	for _, r := range rejections {
		w.poison = append(w.poison, kafka.Poison{Message: w.items[r.ItemID].message, Reason: "refused by Elasticsearch: " + r.Reason})
	}
	s.log(ctx, w)
	return w.poison, nil
}

// log says what a batch brought up to date, each line with the trace of the request that it comes from. Debug only: it is a line for each item.
func (s *Service) log(ctx context.Context, w work) {
	if !s.deps.Logger.Enabled(ctx, slog.LevelDebug) {
		return
	}
	for id, item := range w.items {
		s.deps.Logger.DebugContext(kafka.WithTrace(ctx, item.message), "item brought up to date in the index", "item_id", id, "event_version", item.version,
			"partition", item.message.Partition, "offset", item.message.Offset)
	}
}

func plan(batch []*sarama.ConsumerMessage) work {
	w := work{items: map[uuid.UUID]itemWork{}}
	for _, msg := range batch {
		e, err := event.Decode(msg.Value)
		if err != nil {
			w.poison = append(w.poison, kafka.Poison{Message: msg, Reason: err.Error()})
			continue
		}
		switch e.EventType {
		case event.ItemCreated, event.ItemUpdated, event.ItemDeleted:
			var data event.ItemData
			if err := json.Unmarshal(e.Data, &data); err != nil {
				w.poison = append(w.poison, kafka.Poison{Message: msg, Reason: fmt.Sprintf("decode data of %s: %v", e.EventType, err)})
				continue
			}
			if old, ok := w.items[e.Entity.ID]; !ok || data.EntityVersion >= old.version {
				w.items[e.Entity.ID] = itemWork{version: data.EntityVersion, message: msg}
			}
		default:
			// Not about documents, or newer than this program. The items of a deleted collection are hidden by rights from its commit on, and the purge
			// gives each a version and an event. CollectionDeleted is in another partition than the moves of its items, so to delete by a query, which
			// knows no versions, could take away what was moved out before.
		}
	}
	return w
}
