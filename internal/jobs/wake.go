package jobs

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/pause"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

const (
	// notifyInterval is the least time between two notifications of one process.
	notifyInterval = 5 * time.Millisecond
	// notifyTimeout bounds a statement of Waker and listen.
	notifyTimeout = 5 * time.Second
	// listenCheck is how often a silent connection is looked at: the network may have lost it.
	listenCheck = 30 * time.Second
)

// Waker tells idle workers, in any process, that there may be a job for them. What is not heard is found by the next poll.
type Waker struct {
	logger  *slog.Logger
	queries *db.Queries
	nudges  chan struct{}
}

// NewWaker makes a waker; Run starts it.
func NewWaker(logger *slog.Logger, pool *pgxpool.Pool) *Waker {
	return &Waker{logger: logger, queries: db.New(pool), nudges: make(chan struct{}, 1)}
}

// Nudge says that jobs were queued, by a transaction that has been committed. It never blocks.
func (w *Waker) Nudge() {
	select {
	case w.nudges <- struct{}{}:
	default: // one is pending already, which covers this one
	}
}

// Run notifies the workers until ctx is done: at once for the first nudge, and then at most once an interval for all that came meanwhile. It does so
// outside of the writers' transactions, which would have to commit one after the other.
func (w *Waker) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.nudges:
		}
		limited, cancel := context.WithTimeout(ctx, notifyTimeout)
		err := w.queries.NotifyJobs(limited, "")
		cancel()
		if err != nil && ctx.Err() == nil {
			w.logger.WarnContext(ctx, "waking the workers failed, they will find the jobs a little later", "error", err)
		}
		_ = pause.For(ctx, notifyInterval) // ctx is looked at above
	}
}

// listen passes on what wakers say, as nudges, until ctx is done. Where it fails, polling finds the jobs a little later.
func listen(ctx context.Context, logger *slog.Logger, pool *pgxpool.Pool, nudge func()) {
	postgres.Listener{
		Pool: pool, Logger: logger, Listen: (*db.Queries).ListenJobs, Nudge: nudge, Limit: notifyTimeout, Check: listenCheck,
	}.Run(ctx)
}
