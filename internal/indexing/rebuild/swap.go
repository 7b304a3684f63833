package rebuild

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/pause"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// swap leads the alias to the new index. Before, what an older version wrote in the last moments is brought there.
func (x *execution) swap(ctx context.Context) (string, error) {
	if x.row.State == building {
		if err := x.pass(ctx, x.row.Target, x.send); err != nil {
			return "", err
		}
		if err := lostIfMissing(elastic.Refresh(ctx, x.deps.Elasticsearch, x.row.Target)); err != nil {
			return "", err
		}
	}
	if err := x.lead(ctx, &x.row); err != nil {
		return "", err
	}
	x.state.OldIndex = x.row.OldIndex
	return phaseFinal, nil
}

// lead moves the alias. The decision is made in PostgreSQL first: from then on nobody can give the new index up.
func (r *Rebuilder) lead(ctx context.Context, row *db.SearchRebuildRow) error {
	es, alias := r.deps.Elasticsearch, r.cfg.Alias
	now, there, err := elastic.OwnBehindAlias(ctx, es, alias)
	if err != nil {
		return err
	}
	index, old := now, row.OldIndex
	if !there || now.Name != row.IndexName {
		old = now.Name // none: it is lost, and the new one takes its place
		if index, there, err = elastic.BehindAlias(ctx, es, row.Target); err != nil {
			return err
		}
		if !there { // the new one is lost
			_, err := r.move(ctx, row, lost, "", swapping)
			return errors.Join(errLost, err)
		}
	}
	count, err := r.queries.CountItems(ctx)
	if err != nil {
		return fmt.Errorf("count items: %w", err)
	}
	err = r.queries.AdoptSearchIndex(ctx, db.AdoptSearchIndexParams{Alias: alias, IndexUuid: index.UUID, Name: index.Name, Items: count.Live})
	if err != nil {
		return fmt.Errorf("remember the new index: %w", err)
	}
	if moved, err := r.move(ctx, row, swapping, old, building, swapping); err != nil || !moved {
		return errors.Join(errLost, err)
	}
	if now.Name != row.IndexName {
		if err := elastic.SwapAlias(ctx, es, alias, old, row.IndexName); err != nil {
			return err
		}
		// What was written to both after the last refresh may have been visible in the old one.
		if err := elastic.Refresh(ctx, es, alias); err != nil {
			return err
		}
	}
	if moved, err := r.move(ctx, row, swapped, row.OldIndex, swapping); err != nil || !moved {
		return errors.Join(errLost, err)
	}
	if err := r.queries.ForgetOtherSearchIndices(ctx, alias, index.UUID); err != nil {
		return fmt.Errorf("forget the old index: %w", err)
	}
	r.deps.Logger.InfoContext(ctx, "search is on the new index", "index", row.IndexName, "before", row.OldIndex)
	return nil
}

// final sends through the alias what changed since the last pass before the swap, and what the old index had refused.
func (x *execution) final(ctx context.Context) (string, error) {
	items := indexing.New(x.deps.Pool, x.deps.Elasticsearch, x.cfg.Alias)
	send := func(ctx context.Context, targets []indexing.Target) error {
		_, err := items.Sync(ctx, targets) // what is refused is recorded
		return err
	}
	if err := x.pass(ctx, x.cfg.Alias, send); err != nil {
		return "", err
	}
	for after := uuid.Nil; ; {
		ids, err := x.queries.RefusedItems(ctx, after, pageSize)
		if err != nil {
			return "", fmt.Errorf("list refused items: %w", err)
		}
		if len(ids) == 0 {
			return phaseRetire, nil
		}
		targets := make([]indexing.Target, len(ids))
		for i, id := range ids {
			targets[i] = indexing.Target{ItemID: id}
		}
		if err := send(ctx, targets); err != nil {
			return "", err
		}
		after = ids[len(ids)-1]
	}
}

// retire waits until nobody reads the old index, and drops it.
func (x *execution) retire(ctx context.Context) (string, error) {
	for {
		row, err := x.queries.SearchRebuild(ctx, x.cfg.Alias)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && row.IndexName != x.row.IndexName {
			return phaseDone, nil // by somebody else
		}
		if err != nil {
			return "", fmt.Errorf("look at the rebuild: %w", err)
		}
		ended, err := x.end(ctx, row)
		if err != nil {
			return "", err
		}
		if ended {
			return phaseDone, nil
		}
		if err := pause.For(ctx, x.cfg.Poll); err != nil {
			return "", err
		}
	}
}

// end drops the old index after the swap, and tells whether it could: not while somebody reads it.
func (r *Rebuilder) end(ctx context.Context, row db.SearchRebuildRow) (bool, error) {
	es := r.deps.Elasticsearch
	if row.OldIndex != "" && row.OldIndex != row.IndexName {
		if row.Seconds < r.cfg.MinKeep.Seconds() {
			return false, nil
		}
		readers, err := elastic.Readers(ctx, es, row.OldIndex)
		if err != nil {
			return false, err
		}
		if readers > 0 && row.Seconds < r.cfg.MaxKeep.Seconds() {
			return false, nil
		}
		if err := elastic.DropIndex(ctx, es, r.cfg.Alias, row.OldIndex); err != nil {
			return false, err
		}
	}
	plan, err := elastic.ReadBlueprint(ctx, es, r.cfg.Alias)
	if err != nil {
		return false, err
	}
	if err := elastic.FinishIndex(ctx, es, plan, row.IndexName); err != nil {
		return false, err
	}
	if err := r.queries.EndSearchRebuild(ctx, r.cfg.Alias, row.IndexName); err != nil {
		return false, fmt.Errorf("end the rebuild: %w", err)
	}
	return true, nil
}

// giveUp removes a new index that is not searched.
func (r *Rebuilder) giveUp(ctx context.Context, row db.SearchRebuildRow) error {
	moved, err := r.move(ctx, &row, lost, "", creating, building, lost)
	if err != nil || !moved {
		return err
	}
	_, err = r.clear(ctx, row)
	return err
}

// clear ends a rebuild that nobody goes on with, and tells whether it could now. Before the decision to swap, everything is as it was; after it, the
// swap is made.
func (r *Rebuilder) clear(ctx context.Context, row db.SearchRebuildRow) (bool, error) {
	switch row.State {
	case creating, building:
		return false, r.giveUp(ctx, row)
	case lost:
		if err := elastic.DropIndex(ctx, r.deps.Elasticsearch, r.cfg.Alias, row.IndexName); err != nil {
			return false, err
		}
		if err := r.queries.EndSearchRebuild(ctx, r.cfg.Alias, row.IndexName); err != nil {
			return false, fmt.Errorf("end the rebuild: %w", err)
		}
		r.deps.Logger.InfoContext(ctx, "the index of a rebuild that ended early is removed", "index", row.IndexName)
		return true, nil
	case swapping:
		err := r.lead(ctx, &row)
		if errors.Is(err, errLost) {
			_, err = r.move(ctx, &row, lost, "", swapping)
		}
		return false, err
	}
	return r.end(ctx, row)
}

// Tidy ends a rebuild whose job has ended: it was cancelled, or failed. It does nothing while the job goes on. And it removes what rebuilds that are not
// known any more left.
func (r *Rebuilder) Tidy(ctx context.Context) error {
	return errors.Join(r.tidy(ctx), r.sweep(ctx))
}

func (r *Rebuilder) tidy(ctx context.Context) error {
	row, err := r.queries.SearchRebuild(ctx, r.cfg.Alias)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("look for a rebuild: %w", err)
	case row.Live:
		return nil
	}
	_, err = r.clear(ctx, row)
	return err
}
