package api

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// tagAttempts bounds how often a write makes the tags that somebody else renames, merges or deletes at the same moment.
const tagAttempts = 5

// setTags gives an item, whose row the caller has locked or made, exactly these tags. They are made where they do not exist.
func setTags(ctx context.Context, q *db.Queries, row db.GetItemRow) error {
	for range tagAttempts {
		if err := createTags(ctx, q, row.CollectionID, row.Tags); err != nil {
			return err
		}
		missing, err := q.SetItemTags(ctx, row.Tags, row.ID, row.CollectionID)
		if err != nil {
			return fmt.Errorf("set the item's tags: %w", err)
		}
		if missing == 0 {
			return nil
		}
	}
	return unavailable("the collection's tags are being changed: try again")
}

func createTags(ctx context.Context, q *db.Queries, collection uuid.UUID, names []string) error {
	if len(names) == 0 {
		return nil
	}
	ids := make([]uuid.UUID, len(names))
	for i := range ids {
		var err error
		if ids[i], err = newID(); err != nil {
			return err
		}
	}
	if err := q.CreateTags(ctx, collection, ids, names); err != nil {
		return fmt.Errorf("create tags: %w", err)
	}
	return nil
}
