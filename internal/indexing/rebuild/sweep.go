package rebuild

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atlas-platform/atlas/internal/elastic"
)

// sweepLimit is how long a worker that lost its rebuild takes to clean up. Where that is not enough, a keeper does it.
const sweepLimit = 5 * time.Second

// sweep removes indices that were being built for a rebuild that is not recorded any more. There is one when a worker stalls while it creates the index, so
// that its row is cleared away before the index is there.
func (r *Rebuilder) sweep(ctx context.Context) error {
	// The indices first: a rebuild is recorded before its index is made, and until that is dropped or finished. So what is there and has no row after that was
	// given up, or finished meanwhile, and then DropIndex leaves it alone.
	names, err := elastic.Building(ctx, r.deps.Elasticsearch, r.cfg.Alias)
	if err != nil || len(names) == 0 {
		return err
	}
	row, err := r.queries.SearchRebuild(ctx, r.cfg.Alias)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("look whose indices are being built: %w", err)
	}
	for _, name := range names {
		if name == row.IndexName || name == row.OldIndex {
			continue
		}
		if err := elastic.DropIndex(ctx, r.deps.Elasticsearch, r.cfg.Alias, name); err != nil {
			return err
		}
		r.deps.Logger.WarnContext(ctx, "an index that was left by a rebuild is removed", "index", name)
	}
	return nil
}

// leave removes the index that the attempt may have made, where the rebuild is not its own any more. That is why the attempt may be over: its context too.
func (x *execution) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sweepLimit)
	defer cancel()
	if err := x.sweep(ctx); err != nil {
		x.deps.Logger.WarnContext(ctx, "what a rebuild left could not be looked for, a keeper will", "index", x.row.IndexName, "error", err)
	}
}
