// Package audit consumes every domain event and writes the audit trail: one immutable row for each event, chained by hash within its Kafka
// partition, so that a row that was changed or removed can be found out.
package audit

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/telemetry"
)

// Config is the role's configuration.
type Config struct {
	config.Database
	config.Kafka
	config.Ops
	config.Log
	GroupPrefix string `env:"KAFKA_GROUP_PREFIX" envDefault:"atlas" help:"the consumer group is <prefix>-audit"`
}

// Deps are what the audit consumer uses; Registerer may be nil.
type Deps struct {
	Logger     *slog.Logger
	Pool       *pgxpool.Pool
	Registerer prometheus.Registerer
}

// Service is the audit consumer.
type Service struct {
	deps     Deps
	consumer *kafka.Consumer
}

// New makes the audit consumer; Run starts it.
func New(cfg Config, deps Deps) *Service {
	s := &Service{deps: deps}
	s.consumer = kafka.NewConsumer(kafka.Options{
		Brokers: cfg.Brokers, Topic: cfg.Topic, Group: cfg.GroupPrefix + "-audit", ClientID: "atlas-audit", Secure: cfg.Secure,
		Logger: deps.Logger, Registerer: deps.Registerer, OccurredAt: kafka.EventTime,
	}, &Writer{pool: deps.Pool})
	return s
}

// Run consumes until ctx is done and the batch at hand is finished or given back.
func (s *Service) Run(ctx context.Context) error { return s.consumer.Run(ctx) }

// Checks are the role's readiness checks.
func (s *Service) Checks() map[string]telemetry.Check {
	return map[string]telemetry.Check{"database": s.deps.Pool.Ping, "kafka": s.consumer.Ready}
}
