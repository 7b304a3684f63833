package api

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// CreateItem implements gen.StrictServerInterface.
func (s *server) CreateItem(ctx context.Context, request gen.CreateItemRequestObject) (gen.CreateItemResponseObject, error) {
	p, input := caller(ctx), request.Body
	if err := checkItem(&input.Content, input.SourceURL, input.Tags); err != nil {
		return nil, err
	}
	id, err := newID()
	if err != nil {
		return nil, err
	}
	at := s.now()
	row := db.GetItemRow{
		ID: id, CollectionID: input.CollectionID, Title: input.Title, Content: input.Content, SourceUrl: input.SourceURL, Version: 1,
		CreatedBy: p.id(), UpdatedBy: p.id(), CreatedAt: at, UpdatedAt: at, Tags: wantedTags(input.Tags),
	}
	err = s.write(ctx, func(q *db.Queries) (err error) {
		row.Role, err = q.CreateItem(ctx, db.CreateItemParams{
			ID: id, UserID: p.id(), CollectionID: row.CollectionID, Title: row.Title, Content: row.Content, SourceUrl: row.SourceUrl, CreatedAt: at,
		})
		if missing(err) {
			return notFound(noCollection)
		}
		if err != nil {
			return fmt.Errorf("create the item: %w", err)
		}
		if !canEdit(row.Role) {
			return needsRole(row.Role, gen.Owner, gen.Editor)
		}
		if len(row.Tags) > 0 {
			if err := setTags(ctx, q, row); err != nil {
				return err
			}
		}
		return emitItem(ctx, q, event.ItemCreated, row, []string{"title", "content", "source_url", "tags"})
	})
	if err != nil {
		return nil, err
	}
	tag, location := etag(row.Version), "/v1/items/"+id.String()
	return gen.CreateItem201JSONResponse{Body: itemBody(row), Headers: gen.CreateItem201ResponseHeaders{ETag: &tag, Location: &location}}, nil
}

// UpdateItem implements gen.StrictServerInterface. A patch that changes nothing writes nothing: no version, no event.
func (s *server) UpdateItem(ctx context.Context, request gen.UpdateItemRequestObject) (gen.UpdateItemResponseObject, error) {
	patch := request.JSONBody
	if patch == nil {
		patch = request.ApplicationMergePatchPlusJSONBody
	}
	var sourceURL *string
	if value, err := patch.SourceURL.Get(); err == nil {
		sourceURL = &value
	}
	if err := checkItem(patch.Content, sourceURL, patch.Tags); err != nil {
		return nil, err
	}
	var row db.GetItemRow
	err := s.write(ctx, func(q *db.Queries) (err error) {
		if row, err = lockItem(ctx, q, request.ID, request.Params.IfMatch); err != nil {
			return err
		}
		changed := applyPatch(&row, patch, sourceURL)
		if len(changed) == 0 {
			return nil
		}
		row.UpdatedBy, row.UpdatedAt = caller(ctx).id(), s.now()
		if err := saveItem(ctx, q, &row, changed); err != nil {
			return err
		}
		return emitItem(ctx, q, event.ItemUpdated, row, changed)
	})
	if err != nil {
		return nil, err
	}
	tag := etag(row.Version)
	return gen.UpdateItem200JSONResponse{Body: itemBody(row), Headers: gen.UpdateItem200ResponseHeaders{ETag: &tag}}, nil
}

// DeleteItem implements gen.StrictServerInterface. The row stays, with a new version that says that it is deleted.
func (s *server) DeleteItem(ctx context.Context, request gen.DeleteItemRequestObject) (gen.DeleteItemResponseObject, error) {
	err := s.write(ctx, func(q *db.Queries) error {
		row, err := lockItem(ctx, q, request.ID, request.Params.IfMatch)
		if err != nil {
			return err
		}
		row.UpdatedBy, row.UpdatedAt = caller(ctx).id(), s.now()
		if row.Version, err = q.DeleteItem(ctx, &row.UpdatedAt, row.UpdatedBy, row.ID); err != nil {
			return fmt.Errorf("delete the item: %w", err)
		}
		return emitItem(ctx, q, event.ItemDeleted, row, []string{})
	})
	if err != nil {
		return nil, err
	}
	return gen.DeleteItem204Response{}, nil
}

// lockItem starts a change to an item: whoever may edit it, while it has the version that If-Match names.
func lockItem(ctx context.Context, q *db.Queries, id uuid.UUID, match *string) (db.GetItemRow, error) {
	if _, err := q.LockItem(ctx, id, caller(ctx).id()); missing(err) {
		return db.GetItemRow{}, notFound(noItem)
	} else if err != nil {
		return db.GetItemRow{}, fmt.Errorf("lock the item: %w", err)
	}
	row, err := getItem(ctx, q, id)
	switch {
	case err != nil:
		return row, err
	case !canEdit(row.Role):
		return row, needsRole(row.Role, gen.Owner, gen.Editor)
	case !ifMatch(match, row.Version):
		return row, preconditionFailed(row.Version)
	}
	return row, nil
}

// applyPatch merges a patch into the item and names the fields that it changed.
func applyPatch(row *db.GetItemRow, patch *gen.ItemPatch, sourceURL *string) []string {
	var changed []string
	if patch.Title != nil && *patch.Title != row.Title {
		row.Title, changed = *patch.Title, append(changed, "title")
	}
	if patch.Content != nil && *patch.Content != row.Content {
		row.Content, changed = *patch.Content, append(changed, "content")
	}
	if patch.SourceURL.IsSpecified() && !equal(sourceURL, row.SourceUrl) {
		row.SourceUrl, changed = sourceURL, append(changed, "source_url")
	}
	if patch.Tags != nil {
		if tags := normalTags(*patch.Tags); !slices.Equal(tags, row.Tags) {
			row.Tags, changed = tags, append(changed, "tags")
		}
	}
	return changed
}

func equal(a, b *string) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// saveItem writes what changed. The version comes first: its row lock keeps the order of versions and of outbox rows the same.
func saveItem(ctx context.Context, q *db.Queries, row *db.GetItemRow, changed []string) (err error) {
	onlyTags := len(changed) == 1 && changed[0] == "tags"
	if onlyTags {
		row.Version, err = q.TouchItem(ctx, row.UpdatedBy, row.UpdatedAt, row.ID)
	} else {
		row.Version, err = q.UpdateItem(ctx, db.UpdateItemParams{
			ID: row.ID, Title: row.Title, Content: row.Content, SourceUrl: row.SourceUrl, UpdatedBy: row.UpdatedBy, UpdatedAt: row.UpdatedAt,
		})
	}
	if err != nil {
		return fmt.Errorf("update the item: %w", err)
	}
	if slices.Contains(changed, "tags") {
		return setTags(ctx, q, *row)
	}
	return nil
}

func setTags(ctx context.Context, q *db.Queries, row db.GetItemRow) error {
	ids := make([]uuid.UUID, len(row.Tags))
	for i := range ids {
		var err error
		if ids[i], err = newID(); err != nil {
			return err
		}
	}
	if len(ids) > 0 {
		if err := q.CreateTags(ctx, row.CollectionID, ids, row.Tags); err != nil {
			return fmt.Errorf("create tags: %w", err)
		}
	}
	if err := q.SetItemTags(ctx, row.ID, row.CollectionID, row.Tags); err != nil {
		return fmt.Errorf("set the item's tags: %w", err)
	}
	return nil
}

func emitItem(ctx context.Context, q *db.Queries, eventType event.Type, row db.GetItemRow, changed []string) error {
	return emit(ctx, q, eventType, itemEntity(row.ID, row.CollectionID), row.UpdatedAt, event.ItemData{
		ItemID: row.ID, CollectionID: row.CollectionID, EntityVersion: row.Version, ChangedFields: changed, SourceURL: row.SourceUrl,
	})
}
