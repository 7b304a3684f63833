package rebuild

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/consistency"
	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/pause"
)

const (
	// looks is how often the new index is compared before something is done about a difference: what is on its way arrives meanwhile.
	looks = 10
	// onItsWay is how long ago a change may be that the index does not show yet.
	onItsWay = 10 * time.Second
	// maxAgain is how often all items are sent once more.
	maxAgain = 2
	places   = 25 // that samples are taken from, of up to 20 items each
)

// verify compares the new index with the items: how many there are, and the contents of a sample.
func (x *execution) verify(ctx context.Context) (string, error) {
	if err := lostIfMissing(elastic.SettleIndex(ctx, x.deps.Elasticsearch, x.plan, x.row.IndexName)); err != nil {
		return "", err
	}
	ids, err := x.sample(ctx)
	if err != nil {
		return "", err
	}
	var wrong string
	for range looks {
		if err := x.stillBuilding(ctx); err != nil {
			return "", err
		}
		if wrong, ids, err = x.differs(ctx, ids); err != nil {
			return "", err
		}
		if wrong == "" {
			elastic.Warm(ctx, x.deps.Elasticsearch, x.row.IndexName)
			return phaseSwap, nil
		}
		if err := pause.For(ctx, x.cfg.Poll); err != nil {
			return "", err
		}
		if err := x.pass(ctx, x.row.Target, x.send); err != nil {
			return "", err
		}
	}
	if x.state.Again == maxAgain {
		return "", fmt.Errorf("%w: %s", ErrDifferent, wrong)
	}
	x.deps.Logger.WarnContext(ctx, "the new search index is not as the items are, they are sent again", "index", x.row.IndexName, "difference", wrong)
	x.state.Again++
	x.state.After, x.state.Done = uuid.Nil, 0
	x.state.Refused, x.state.Known, x.state.Reasons = 0, nil, nil // everything is sent anew
	return phaseBackfill, nil
}

// differs says what is wrong with the new index, empty: nothing, and which items of the sample are to be looked at again.
func (x *execution) differs(ctx context.Context, ids []uuid.UUID) (string, []uuid.UUID, error) {
	before, err := x.queries.CountItems(ctx)
	if err != nil {
		return "", ids, fmt.Errorf("count items: %w", err)
	}
	if err := lostIfMissing(elastic.Refresh(ctx, x.deps.Elasticsearch, x.row.Target)); err != nil {
		return "", ids, err
	}
	documents, err := elastic.Count(ctx, x.deps.Elasticsearch, x.row.Target)
	if err != nil {
		return "", ids, lostIfMissing(err)
	}
	after, err := x.queries.CountItems(ctx)
	if err != nil {
		return "", ids, fmt.Errorf("count items: %w", err)
	}
	fresh, err := x.fresh(ctx)
	if err != nil {
		return "", ids, err
	}
	least, most := min(before.Live, after.Live)-fresh-x.state.Refused, max(before.Live, after.Live)+max(before.Doomed, after.Doomed)+fresh
	if documents < least || documents > most {
		return fmt.Sprintf("%d documents of %d items, of which %d changed a moment ago", documents, after.Live, fresh), ids, nil
	}
	differences, err := consistency.New(x.deps.Pool, x.deps.Elasticsearch, x.row.Target).Differences(ctx, ids)
	if err != nil {
		return "", ids, fmt.Errorf("compare a sample: %w", err)
	}
	for id, difference := range differences {
		return fmt.Sprintf("%d sampled items differ, such as %s: %s", len(differences), id, difference), slices.Collect(maps.Keys(differences)), nil
	}
	return "", nil, nil
}

// fresh is how many items changed so lately that the index may not show it.
func (x *execution) fresh(ctx context.Context) (int64, error) {
	began, err := x.queries.ChangesBegan(ctx, onItsWay.Seconds())
	if err != nil {
		return 0, fmt.Errorf("look at the time: %w", err)
	}
	changed, err := x.queries.ItemsChangedBetween(ctx, began.Since, began.Now.AddDate(1, 0, 0))
	if err != nil {
		return 0, fmt.Errorf("list changed items: %w", err)
	}
	deleted, err := x.queries.ItemsDeletedSince(ctx, began.Since, uuid.Nil, 1<<20)
	if err != nil {
		return 0, fmt.Errorf("list deleted items: %w", err)
	}
	return int64(len(changed) + len(deleted)), nil
}

// sample are live items that search has, from random places.
func (x *execution) sample(ctx context.Context) ([]uuid.UUID, error) {
	bounds, err := x.queries.ItemIDRange(ctx)
	if err != nil {
		return nil, fmt.Errorf("take a sample of items: %w", err)
	}
	from, to := binary.BigEndian.Uint64(bounds.First[:8]), binary.BigEndian.Uint64(bounds.Last[:8])
	at := []uuid.UUID{bounds.First}
	for range places - 1 {
		var id uuid.UUID
		place := from
		if to > from {
			place += rand.Uint64N(to - from) //nolint:gosec // a sample, guards nothing
		}
		binary.BigEndian.PutUint64(id[:8], place)
		at = append(at, id)
	}
	ids, err := x.queries.SampleIndexedItems(ctx, at, true)
	if err != nil {
		return nil, fmt.Errorf("take a sample of items: %w", err)
	}
	return ids, nil
}

// lostIfMissing turns an answer that there is no such index into the loss of the new one.
func lostIfMissing(err error) error {
	var api *elastic.IndexAPIError
	if errors.As(err, &api) && api.Status == 404 {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return err
}
