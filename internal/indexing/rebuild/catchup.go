package rebuild

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

const (
	// margin is how much the clocks of those who write items may differ.
	margin = time.Minute
	// slice is how much time's changes are listed at once: ids and versions only.
	slice = time.Minute
	// tombstones is how long before the rebuild deletions are repeated in the new index, so that a write that is late is refused there as it is in the
	// old one (index.gc_deletes).
	tombstones = time.Hour
	// quick is how short a pass has to be for the next step to follow.
	quick = 15 * time.Second
	// maxPasses bounds the passes before the next step follows anyway: everybody of this version writes to both.
	maxPasses = 10
)

// catchUp sends what changed since the rebuild began, until a pass is quick. Whoever writes to both indices has done it before; a version of Atlas that
// knows the alias only has not.
func (x *execution) catchUp(ctx context.Context) (string, error) {
	for range maxPasses {
		begun := time.Now()
		if err := x.stillBuilding(ctx); err != nil {
			return "", err
		}
		if err := x.pass(ctx, x.row.Target, x.send); err != nil {
			return "", err
		}
		if time.Since(begun) < quick {
			break
		}
	}
	return phaseVerify, nil
}

// pass sends what changed since the pass before began and is not behind the alias yet; deletions always.
func (x *execution) pass(ctx context.Context, alias string, send func(context.Context, []indexing.Target) error) error {
	if err := lostIfMissing(elastic.Refresh(ctx, x.deps.Elasticsearch, alias)); err != nil {
		return err
	}
	began, err := x.queries.ChangesBegan(ctx, margin.Seconds())
	if err != nil {
		return fmt.Errorf("look at the time: %w", err)
	}
	deletedSince := x.state.Since
	if x.state.Passes == 0 {
		deletedSince = deletedSince.Add(-tombstones)
	}
	if err := x.passOverDeleted(ctx, deletedSince, send); err != nil {
		return err
	}
	for since := x.state.Since; ; since = since.Add(slice) {
		until := since.Add(slice)
		last := until.After(began.Now)
		if last {
			until = until.AddDate(1, 0, 0) // whatever a clock says that is ahead
		}
		rows, err := x.queries.ItemsChangedBetween(ctx, since, until)
		if err != nil {
			return fmt.Errorf("list changed items: %w", err)
		}
		for start := 0; start < len(rows); start += pageSize {
			targets, err := x.behind(ctx, alias, rows[start:min(start+pageSize, len(rows))])
			if err != nil {
				return err
			}
			if err := x.sendChanged(ctx, targets, send); err != nil {
				return err
			}
		}
		if last {
			break
		}
	}
	x.state.Passes++
	x.state.Since = began.Since
	return x.checkpoint(ctx)
}

// behind are the items that the index does not show in their version: few, where everybody writes to both.
func (x *execution) behind(ctx context.Context, alias string, rows []db.ItemsChangedBetweenRow) ([]indexing.Target, error) {
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.ID.String()
	}
	versions, err := elastic.Versions(ctx, x.deps.Elasticsearch, alias, ids)
	if err != nil {
		return nil, lostIfMissing(err)
	}
	var targets []indexing.Target
	for i, row := range rows {
		if versions[ids[i]] < row.Version {
			targets = append(targets, indexing.Target{ItemID: row.ID, Version: row.Version})
		}
	}
	return targets, nil
}

func (x *execution) passOverDeleted(ctx context.Context, since time.Time, send func(context.Context, []indexing.Target) error) error {
	after := uuid.Nil
	for {
		rows, err := x.queries.ItemsDeletedSince(ctx, since, after, pageSize)
		if err != nil {
			return fmt.Errorf("list deleted items: %w", err)
		}
		if len(rows) == 0 {
			return nil
		}
		targets := make([]indexing.Target, len(rows))
		for i, row := range rows {
			targets[i] = indexing.Target{ItemID: row.ID, Version: row.Version}
		}
		if err := x.sendChanged(ctx, targets, send); err != nil {
			return err
		}
		since, after = rows[len(rows)-1].DeletedAt, rows[len(rows)-1].ID
	}
}

func (x *execution) sendChanged(ctx context.Context, targets []indexing.Target, send func(context.Context, []indexing.Target) error) error {
	if err := send(ctx, targets); err != nil {
		return err
	}
	x.deps.Metrics.changes.Add(float64(len(targets)))
	return nil
}
