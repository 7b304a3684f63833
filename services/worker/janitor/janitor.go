// Package janitor removes for good what has been kept long enough: the trash, deleted collections, stored answers, ended sessions and the like.
// It works in small batches, each a short transaction of its own, so that it never stands in anybody's way. The audit trail is not its business.
package janitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// lockKey is the advisory lock of the janitor at work: "janitor" in ASCII. Advisory locks are per database.
const lockKey = 0x6a616e69746f72

// batchTimeout is how long the database may take for one batch.
const batchTimeout = time.Minute

// How long things are kept that nobody configures.
const (
	// unseenGrace is how much longer an item stays whose deletion search has not seen.
	unseenGrace = 7 * 24 * time.Hour
	// moveLifetime is how long a move is remembered after the index was given it. It is more than search.MaxMoment and any sensible refresh interval.
	moveLifetime = 15 * time.Minute
	// keyLifetime is a good hour more than the API remembers an Idempotency-Key: nobody is reading one that goes.
	keyLifetime      = 25 * time.Hour
	sessionLifetime  = 24 * time.Hour // after the session's end, as at a login
	attemptsLifetime = time.Minute    // after the counter's time is over, as at a login
	tokenLifetime    = 30 * 24 * time.Hour
)

// Config sets the janitor's pace; zero values mean the defaults.
type Config struct {
	Retention time.Duration // how long deleted items and collections are kept; default 720 h
	Jobs      time.Duration // how long finished jobs are kept; default 720 h
	Files     time.Duration // how long exports and uploads are kept; default 168 h
	Interval  time.Duration // how often a round is made, more or less; default 10 min
	BatchSize int32         // rows removed at a time; default 500
}

func (c Config) withDefaults() Config {
	if c.Retention == 0 {
		c.Retention = 720 * time.Hour
	}
	if c.Jobs == 0 {
		c.Jobs = 720 * time.Hour
	}
	if c.Files == 0 {
		c.Files = 168 * time.Hour
	}
	if c.Interval == 0 {
		c.Interval = 10 * time.Minute
	}
	if c.BatchSize == 0 {
		c.BatchSize = 500
	}
	return c
}

// Deps are what the janitor uses. Registerer may be nil.
type Deps struct {
	Logger *slog.Logger
	Pool   *pgxpool.Pool
	// Objects is nil where there is no object store.
	Objects    objects.Store
	Registerer prometheus.Registerer
}

// Janitor is one of several candidates: whoever has the lock makes the round.
type Janitor struct {
	cfg     Config
	deps    Deps
	removed *prometheus.CounterVec
}

// New makes a janitor; Run starts it.
func New(cfg Config, deps Deps) *Janitor {
	j := &Janitor{cfg: cfg.withDefaults(), deps: deps, removed: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "atlas_janitor_rows_removed_total", Help: "Rows, and files of the object store, that were removed for good because they had been kept long enough.",
	}, []string{"kind"})}
	if deps.Registerer != nil {
		deps.Registerer.MustRegister(j.removed)
	}
	return j
}

// Run makes rounds until ctx is done. The first comes after a part of the interval, so that replicas that start together come one by one.
func (j *Janitor) Run(ctx context.Context) {
	timer := time.NewTimer(rand.N(j.cfg.Interval)) //nolint:gosec // spreads load, guards nothing
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if _, err := j.Round(ctx); err != nil && ctx.Err() == nil {
			j.deps.Logger.WarnContext(ctx, "the janitor could not do everything", "error", err)
		}
		timer.Reset(j.cfg.Interval*3/4 + rand.N(j.cfg.Interval/2+1)) //nolint:gosec // spreads load, guards nothing
	}
}

// Round removes everything whose time has come and returns how many rows of each kind that was: nil when another janitor is at work. What fails
// does not keep the rest from being done.
func (j *Janitor) Round(ctx context.Context) (map[string]int64, error) {
	conn, err := j.deps.Pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Release()
	q := db.New(conn)
	// The lock and the work share a connection: when it dies, both end.
	locked, err := q.TryJanitorLock(ctx, lockKey)
	if err != nil {
		return nil, fmt.Errorf("take the janitor's lock: %w", err)
	}
	if !locked {
		return nil, nil
	}
	defer j.unlock(ctx, conn)

	started := time.Now()
	r := &round{cfg: j.cfg, conn: conn, queries: q, store: j.deps.Objects, now: started, removed: map[string]int64{}}
	var errs []error
	for _, s := range r.steps() {
		if err := s.do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.name, err))
		}
		if ctx.Err() != nil || conn.Conn().IsClosed() {
			break
		}
	}
	attributes := make([]any, 0, 2*len(r.removed)+2)
	for kind, rows := range r.removed {
		j.removed.WithLabelValues(kind).Add(float64(rows))
		attributes = append(attributes, slog.Int64(kind, rows))
	}
	if len(attributes) > 0 {
		j.deps.Logger.InfoContext(ctx, "the janitor made a round", append(attributes, slog.Duration("duration", time.Since(started)))...)
	}
	return r.removed, errors.Join(errs...)
}

// unlock must not be cut short by the end of ctx. A connection that can't be unlocked is closed: the pool would hand it on with the lock.
func (j *Janitor) unlock(ctx context.Context, conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if unlocked, err := db.New(conn).ReleaseJanitorLock(ctx, lockKey); err != nil || !unlocked {
		_ = conn.Conn().Close(ctx) // it is given up anyway
	}
}
