package relay

import (
	"context"
	"time"

	"github.com/atlas-platform/atlas/internal/pause"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

const (
	pruneBatch = 2000
	prunePause = 50 * time.Millisecond // between batches, which leaves room for others
)

// prune removes rows that were published long enough ago, until ctx is done. It has a connection of its own from the pool, so that publishing never
// waits for it. Without a retention there are only those that a release before this one left.
func (r *Relay) prune(ctx context.Context) {
	queries := db.New(r.deps.Pool)
	for ctx.Err() == nil {
		var pruned int64
		err := r.limited(ctx, func(ctx context.Context) (err error) {
			pruned, err = queries.PruneOutbox(ctx, time.Now().Add(-r.cfg.Retention), pruneBatch)
			return err
		})
		if err != nil && ctx.Err() == nil {
			r.deps.Logger.WarnContext(ctx, "pruning the outbox failed, will try again", "error", err)
		}
		r.metrics.pruned.Add(float64(pruned))
		wait := r.cfg.PruneInterval
		if pruned == pruneBatch {
			wait = prunePause
		}
		_ = pause.For(ctx, wait) // ctx is looked at above
	}
}
