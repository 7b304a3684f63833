// Package relay publishes the transactional outbox to Kafka. Many relays may run, inside the API's processes; one leads, by a PostgreSQL
// advisory lock, so that the events of one aggregate reach Kafka in the order in which they were committed.
package relay

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/pause"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/relay/produce"
)

// leadershipKey is the advisory lock of the leading relay: "relay" in ASCII. Advisory locks are per database.
const leadershipKey = 0x72656c6179

// Config sets up a relay. Topic and Brokers are required; a zero value elsewhere means the default.
type Config struct {
	Brokers []string
	// Secure sets up TLS and SASL in the settings of each new client; default: neither.
	Secure func(*sarama.Config) error
	Topic  string

	PollInterval    time.Duration // how often the outbox is looked at without a nudge; default 50 ms
	GatherInterval  time.Duration // least time from one look that found events to the next, unless there is a backlog; default 5 ms
	NotifyInterval  time.Duration // least time between two announcements of a standby to the leader; default 5 ms
	StandbyInterval time.Duration // how often a standby tries to lead; default 200 ms
	Lease           time.Duration // how long the database keeps the leadership of a relay that it doesn't hear; default 5 s
	BatchSize       int32         // events in a batch; default 2000
	BatchBytes      int64         // a batch ends with the event that makes it so large; default 2 MiB
	Retention       time.Duration // how long published events stay in the outbox; by default they are removed at once
	PruneInterval   time.Duration // how often old rows are looked for; default 1 min
	RetryMax        time.Duration // longest wait after a failure; default 5 s
	MeasureInterval time.Duration // how often the backlog is measured; default 5 s
	QueryTimeout    time.Duration // how long the database may take for one statement; default 10 s
}

func (c Config) withDefaults() Config {
	c.PollInterval = cmp.Or(c.PollInterval, 50*time.Millisecond)
	c.GatherInterval = cmp.Or(c.GatherInterval, 5*time.Millisecond)
	c.NotifyInterval = cmp.Or(c.NotifyInterval, 5*time.Millisecond)
	c.StandbyInterval = cmp.Or(c.StandbyInterval, 200*time.Millisecond)
	c.Lease = cmp.Or(c.Lease, 5*time.Second)
	c.BatchSize = cmp.Or(c.BatchSize, 2000)
	c.BatchBytes = cmp.Or(c.BatchBytes, 2<<20)
	c.PruneInterval = cmp.Or(c.PruneInterval, time.Minute)
	c.RetryMax = cmp.Or(c.RetryMax, 5*time.Second)
	c.MeasureInterval = cmp.Or(c.MeasureInterval, 5*time.Second)
	c.QueryTimeout = cmp.Or(c.QueryTimeout, 10*time.Second)
	// Whoever holds or wants the leadership is heard well within the lease.
	c.PollInterval, c.StandbyInterval = min(c.PollInterval, c.Lease/4), min(c.StandbyInterval, c.Lease/4)
	return c
}

// Deps are what a relay uses. Pool and Logger are required.
type Deps struct {
	Logger *slog.Logger
	// Pool tells where the database is. The relay opens a connection of its own, with which leadership lives and dies,
	// and a second one while it leads, to listen.
	Pool       *pgxpool.Pool
	Registerer prometheus.Registerer
	// NewProducer connects to Kafka; nil means NewProducer with the configured brokers and topic.
	NewProducer func() (Producer, error)
}

// Producer sends records to the topic; see produce.Producer.
type Producer interface {
	Send(ctx context.Context, records []*sarama.Record) produce.Outcome
	Close() error
}

// NewProducer connects to Kafka. It fails when no broker answers. secure is Config.Secure.
func NewProducer(brokers []string, topic string, secure func(*sarama.Config) error) (Producer, error) {
	settings := kafka.NewProducerConfig("atlas-relay")
	if secure != nil {
		if err := secure(settings); err != nil {
			return nil, err
		}
	}
	client, err := sarama.NewClient(brokers, settings)
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka: %w", err)
	}
	return produce.New(client, topic, produce.Config{})
}

// Relay is one candidate for leadership.
type Relay struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	nudges  chan struct{}
	leading atomic.Bool
	failure atomic.Pointer[error]
}

// New makes a relay; Run starts it.
func New(cfg Config, deps Deps) *Relay {
	cfg = cfg.withDefaults()
	if deps.NewProducer == nil {
		deps.NewProducer = func() (Producer, error) { return NewProducer(cfg.Brokers, cfg.Topic, cfg.Secure) }
	}
	return &Relay{cfg: cfg, deps: deps, metrics: newMetrics(deps.Registerer), nudges: make(chan struct{}, 1)}
}

// Nudge tells the relay that something was committed here; one that doesn't lead passes it on. It never blocks.
func (r *Relay) Nudge() {
	select {
	case r.nudges <- struct{}{}:
	default: // a nudge is pending already
	}
}

// Leading tells whether this relay is the one that publishes.
func (r *Relay) Leading() bool { return r.leading.Load() }

// Ready returns why the relay could not do its work when it last tried; nil for a standby.
func (r *Relay) Ready(context.Context) error {
	if err := r.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Run stands by, leads when it can, and returns nil once ctx is done and the batch at hand is finished.
func (r *Relay) Run(ctx context.Context) error {
	var measuring sync.WaitGroup
	defer measuring.Wait()
	measuring.Go(func() { r.measure(ctx) })
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = 100*time.Millisecond, r.cfg.RetryMax
	retry.Reset()
	for ctx.Err() == nil {
		if err := r.candidacy(ctx, retry.Reset); err != nil && ctx.Err() == nil {
			r.failure.Store(&err)
			r.deps.Logger.WarnContext(ctx, "relay stopped, will try again", "error", err)
			_ = pause.For(ctx, retry.NextBackOff()) // ctx is looked at above
		}
	}
	return nil
}

// measure reports the backlog until ctx is done. It runs beside the publishing, which waits while Kafka hangs: just when the backlog matters.
func (r *Relay) measure(ctx context.Context) {
	queries := db.New(r.deps.Pool)
	for ctx.Err() == nil {
		err := r.limited(ctx, func(ctx context.Context) error {
			backlog, err := queries.OutboxBacklog(ctx)
			if err == nil {
				r.metrics.backlog(float64(backlog.Depth), backlog.OldestAgeSeconds, float64(backlog.DeadLetters))
			}
			return err
		})
		if err != nil && ctx.Err() == nil {
			r.metrics.backlog(math.NaN(), math.NaN(), math.NaN()) // unknown; why is in the log of whatever needs the database
		}
		_ = pause.For(ctx, r.cfg.MeasureInterval) // ctx is looked at above
	}
}

// limited gives one statement QueryTimeout. A database that hangs, or that the network lost without a word, then ends the candidacy instead of
// holding it for as long as the kernel believes in the connection.
func (r *Relay) limited(ctx context.Context, statement func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.QueryTimeout)
	defer cancel()
	return statement(ctx)
}
