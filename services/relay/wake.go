package relay

import (
	"context"
	"time"

	"github.com/atlas-platform/atlas/internal/pause"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// listen passes on what other replicas announce, as nudges, until ctx is done. Where it fails, polling finds the events a little later.
func (r *Relay) listen(ctx context.Context) {
	postgres.Listener{
		Pool: r.deps.Pool, Logger: r.deps.Logger, Listen: (*db.Queries).ListenOutbox, Nudge: r.Nudge,
		Limit: r.cfg.QueryTimeout, Check: r.cfg.QueryTimeout,
	}.Run(ctx)
}

// announce tells the leading relay, in another process, about commits here: at once for the first, and then at most once an interval for all that
// came meanwhile. It runs outside of the writers' transactions.
func (r *Relay) announce(ctx context.Context, queries *db.Queries, last time.Time) (time.Time, error) {
	if err := pause.For(ctx, r.cfg.NotifyInterval-time.Since(last)); err != nil {
		return last, err
	}
	select {
	case <-r.nudges: // of a commit that this notification covers too
	default:
	}
	return time.Now(), r.limited(ctx, queries.NotifyOutbox)
}
