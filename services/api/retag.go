package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// retagBatch is how many items change at a time: it bounds memory, not the transaction.
const retagBatch = 1000

// retagging is a change of tags on every item that has one of them.
type retagging struct {
	collection uuid.UUID
	tags       []uuid.UUID
	// unlink takes the tags from the items; target is what they get instead.
	unlink bool
	target *uuid.UUID

	by      uuid.UUID
	at      time.Time
	changed map[uuid.UUID]bool
}

// retag gives each item that has one of the tags, in the trash or not, a version, a revision and an event: a version that nobody announces would never be
// indexed. Items are locked before tags, as by whoever writes an item, and in the order of their ids. Only then the tags are locked, so that other items get them meanwhile; those few are
// changed afterwards. The caller renames or deletes the tags, and holds lockTagChanges.
func (s *server) retag(ctx context.Context, q *db.Queries, r retagging) error {
	r.by, r.at, r.changed = caller(ctx).id(), s.now(), make(map[uuid.UUID]bool)
	err := r.changeItems(ctx, q)
	if err == nil {
		if err = q.LockTags(ctx, r.tags); err == nil {
			err = r.changeItems(ctx, q)
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", unavailable(fmt.Sprintf("too many items have the tag to change them all in %s; none was changed", requestTimeout)), err)
	}
	if err != nil {
		return fmt.Errorf("change the tags of items: %w", err)
	}
	return nil
}

// changeItems changes what has one of the tags and was not changed yet.
func (r retagging) changeItems(ctx context.Context, q *db.Queries) error {
	var after uuid.UUID
	for {
		ids, err := q.TaggedItems(ctx, r.tags, after, retagBatch)
		if err != nil {
			return fmt.Errorf("list the items with the tags: %w", err)
		}
		if len(ids) == 0 {
			return nil
		}
		after = ids[len(ids)-1]
		ids = slices.DeleteFunc(ids, func(id uuid.UUID) bool { return r.changed[id] })
		if len(ids) == 0 {
			continue
		}
		if err := r.changeBatch(ctx, q, ids); err != nil {
			return err
		}
	}
}

func (r retagging) changeBatch(ctx context.Context, q *db.Queries, ids []uuid.UUID) error {
	if err := q.LockItems(ctx, ids); err != nil {
		return fmt.Errorf("lock items: %w", err)
	}
	rows, err := q.RetagItems(ctx, db.RetagItemsParams{
		Ids: ids, TagIds: r.tags, ChangedBy: r.by, ChangedAt: r.at, Unlink: r.unlink, Target: r.target,
	})
	if err != nil {
		return fmt.Errorf("change the items' tags: %w", err)
	}
	events := make([]db.InsertOutboxManyParams, 0, len(rows))
	for _, row := range rows {
		r.changed[row.ID] = true
		head := db.GetItemHeadRow{ID: row.ID, CollectionID: r.collection, SourceUrl: row.SourceUrl, Version: row.Version}
		outbox, err := headEvent(ctx, event.ItemUpdated, head, r.at, []string{"tags"})
		if err != nil {
			return err
		}
		events = append(events, outbox)
	}
	if _, err := q.InsertOutboxMany(ctx, events); err != nil {
		return fmt.Errorf("write the events of changed tags: %w", err)
	}
	return nil
}
