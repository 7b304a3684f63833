// Package relay publishes the transactional outbox to Kafka. Many relays may run, inside the API's processes; one leads, by a PostgreSQL
// advisory lock, so that the events of one aggregate reach Kafka in the order in which they were committed.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// leadershipKey is the advisory lock of the leading relay: "relay" in ASCII. Advisory locks are per database.
const leadershipKey = 0x72656c6179

// Config sets up a relay. Topic and Brokers are required; a zero value elsewhere means the default.
type Config struct {
	Brokers []string
	Topic   string

	PollInterval    time.Duration // how often the outbox is looked at without a nudge; default 25 ms
	StandbyInterval time.Duration // how often a standby tries to lead; default 1 s
	BatchSize       int32         // rows fetched at once; default 500
	Retention       time.Duration // how long published rows are kept; default 24 h
	PruneInterval   time.Duration // how often old rows are looked for; default 1 min
	RetryMax        time.Duration // longest wait after a failure; default 5 s
	MeasureInterval time.Duration // how often the backlog is measured; default 5 s
	QueryTimeout    time.Duration // how long the database may take for one statement; default 10 s
}

func (c Config) withDefaults() Config {
	setDefault(&c.PollInterval, 25*time.Millisecond)
	setDefault(&c.StandbyInterval, time.Second)
	setDefault(&c.BatchSize, 500)
	setDefault(&c.Retention, 24*time.Hour)
	setDefault(&c.PruneInterval, time.Minute)
	setDefault(&c.RetryMax, 5*time.Second)
	setDefault(&c.MeasureInterval, 5*time.Second)
	setDefault(&c.QueryTimeout, 10*time.Second)
	return c
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Deps are what a relay uses. Pool and Logger are required.
type Deps struct {
	Logger *slog.Logger
	// Pool tells where the database is. The relay opens one connection of its own: leadership lives and dies with it.
	Pool       *pgxpool.Pool
	Registerer prometheus.Registerer
	// NewProducer connects to Kafka; nil means kafka.NewProducer with the configured brokers.
	NewProducer func() (sarama.SyncProducer, error)
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
		deps.NewProducer = func() (sarama.SyncProducer, error) { return kafka.NewProducer(cfg.Brokers, "atlas-relay") }
	}
	return &Relay{cfg: cfg, deps: deps, metrics: newMetrics(deps.Registerer), nudges: make(chan struct{}, 1)}
}

// Nudge tells the relay that something was committed. It never blocks.
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
			_ = r.pause(ctx, retry.NextBackOff()) // ctx is looked at above
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
				r.metrics.backlog(float64(backlog.Depth), backlog.OldestAgeSeconds)
			}
			return err
		})
		if err != nil && ctx.Err() == nil {
			r.metrics.backlog(math.NaN(), math.NaN()) // unknown; why is in the log of whatever needs the database
		}
		_ = r.pause(ctx, r.cfg.MeasureInterval) // ctx is looked at above
	}
}

// candidacy holds one connection: it waits for leadership on it and leads until something breaks.
func (r *Relay) candidacy(ctx context.Context, healthy func()) error {
	conn, err := pgx.ConnectConfig(ctx, r.deps.Pool.Config().ConnConfig.Copy())
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	// The server releases the lock with the connection, after whatever happened on it.
	defer func() {
		timeout, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(timeout) // the connection is dead or idle
	}()
	queries := db.New(conn)
	if err := r.limited(ctx, queries.DetectDeadClient); err != nil {
		return fmt.Errorf("set up the connection: %w", err)
	}
	for {
		var leads bool
		err := r.limited(ctx, func(ctx context.Context) (err error) {
			leads, err = queries.TryLeadership(ctx, leadershipKey)
			return err
		})
		if err != nil {
			return fmt.Errorf("ask for leadership: %w", err)
		}
		if leads {
			break
		}
		r.failure.Store(nil)
		healthy()
		if err := r.pause(ctx, r.cfg.StandbyInterval); err != nil {
			return err
		}
	}
	lead := &leader{relay: r, queries: queries, healthy: healthy}
	producer, err := r.deps.NewProducer()
	if err != nil {
		return err
	}
	defer func() {
		if err := producer.Close(); err != nil {
			r.deps.Logger.WarnContext(ctx, "closing the relay's producer failed", "error", err)
		}
	}()
	r.deps.Logger.InfoContext(ctx, "relay leads")
	r.leading.Store(true)
	r.metrics.leading.Set(1)
	defer func() {
		r.leading.Store(false)
		r.metrics.leading.Set(0)
		r.deps.Logger.InfoContext(context.WithoutCancel(ctx), "relay leads no more")
	}()
	lead.producer = producer
	return lead.run(ctx)
}

// limited gives one statement QueryTimeout. A database that hangs, or that the network lost without a word, then ends the candidacy instead of
// holding it for as long as the kernel believes in the connection.
func (r *Relay) limited(ctx context.Context, statement func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.QueryTimeout)
	defer cancel()
	return statement(ctx)
}

// pause waits for d or for the end of ctx, whose error it returns.
func (r *Relay) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

var errPartial = errors.New("some events were not published")
