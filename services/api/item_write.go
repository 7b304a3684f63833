package api

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// CreateItem implements gen.StrictServerInterface.
func (s *server) CreateItem(ctx context.Context, request gen.CreateItemRequestObject) (gen.CreateItemResponseObject, error) {
	return writeOnce(ctx, s, request.Params.IdempotencyKey, request, gen.CreateItemResponseObject.VisitCreateItemResponse,
		func(q *db.Queries) (gen.CreateItemResponseObject, error) {
			row, created, err := s.createItemIn(ctx, q, request.Body)
			if err != nil {
				return nil, err
			}
			tag, location := etag(row.Version), "/v1/items/"+row.ID.String()
			if !created {
				return gen.CreateItem200JSONResponse{Body: itemBody(row), Headers: gen.CreateItem200ResponseHeaders{ETag: &tag, Location: &location}}, nil
			}
			return gen.CreateItem201JSONResponse{Body: itemBody(row), Headers: gen.CreateItem201ResponseHeaders{ETag: &tag, Location: &location}}, nil
		})
}

// createItemIn checks the input and makes the item, or finds the one that has its source already: then created is false.
func (s *server) createItemIn(ctx context.Context, q *db.Queries, input *gen.ItemCreate) (row db.GetItemRow, created bool, err error) {
	p := caller(ctx)
	if err := checkItem(&input.Content, input.SourceURL, input.Tags); err != nil {
		return row, false, err
	}
	id, err := newID()
	if err != nil {
		return row, false, err
	}
	at := s.now()
	row = db.GetItemRow{
		ID: id, CollectionID: input.CollectionID, Title: input.Title, Content: input.Content, SourceUrl: input.SourceURL, Version: 1,
		CreatedBy: p.id(), UpdatedBy: p.id(), CreatedAt: at, UpdatedAt: at, Tags: wantedTags(input.Tags),
		Metadata: json.RawMessage(`{}`),
	}
	if input.Metadata != nil {
		row.Metadata = *input.Metadata
	}
	row.Role, err = q.CreateItem(ctx, db.CreateItemParams{
		ID: id, UserID: p.id(), CollectionID: row.CollectionID, Title: row.Title, Content: row.Content, SourceUrl: row.SourceUrl,
		Metadata: row.Metadata, CreatedAt: at,
	})
	switch {
	case missing(err):
		return row, false, notFound(noCollection)
	case err != nil:
		return row, false, fmt.Errorf("create the item: %w", err)
	case !canEdit(row.Role):
		return row, false, needsRole(row.Role, gen.Owner, gen.Editor)
	}
	if len(row.Tags) > 0 {
		if err := setTags(ctx, q, row); err != nil {
			return row, false, err
		}
	}
	return row, true, emitItem(ctx, q, event.ItemCreated, row, []string{"title", "content", "source_url", "tags"})
}

// UpdateItem implements gen.StrictServerInterface.
func (s *server) UpdateItem(ctx context.Context, request gen.UpdateItemRequestObject) (gen.UpdateItemResponseObject, error) {
	patch := request.JSONBody
	if patch == nil {
		patch = request.ApplicationMergePatchPlusJSONBody
	}
	var row db.GetItemRow
	err := s.write(ctx, func(q *db.Queries) (err error) {
		row, err = s.updateItemIn(ctx, q, request.ID, request.Params.IfMatch, patch)
		return err
	})
	if err != nil {
		return nil, err
	}
	tag := etag(row.Version)
	return gen.UpdateItem200JSONResponse{Body: itemBody(row), Headers: gen.UpdateItem200ResponseHeaders{ETag: &tag}}, nil
}

// updateItemIn checks the patch and changes the item while it has the version that match, an If-Match header, names. A patch that changes nothing
// writes nothing: no version, no event.
func (s *server) updateItemIn(ctx context.Context, q *db.Queries, id uuid.UUID, match *string, patch *gen.ItemPatch) (row db.GetItemRow, err error) {
	var sourceURL *string
	if value, err := patch.SourceURL.Get(); err == nil {
		sourceURL = &value
	}
	if err := checkItem(patch.Content, sourceURL, patch.Tags); err != nil {
		return row, err
	}
	if row, err = lockItem(ctx, q, id, match); err != nil {
		return row, err
	}
	changed := applyPatch(&row, patch, sourceURL)
	if len(changed) == 0 {
		return row, nil
	}
	row.UpdatedBy, row.UpdatedAt = caller(ctx).id(), s.now()
	if err := saveItem(ctx, q, &row, changed); err != nil {
		return row, err
	}
	return row, emitItem(ctx, q, event.ItemUpdated, row, changed)
}

// DeleteItem implements gen.StrictServerInterface.
func (s *server) DeleteItem(ctx context.Context, request gen.DeleteItemRequestObject) (gen.DeleteItemResponseObject, error) {
	err := s.write(ctx, func(q *db.Queries) error {
		_, err := s.deleteItemIn(ctx, q, request.ID, request.Params.IfMatch)
		return err
	})
	if err != nil {
		return nil, err
	}
	return gen.DeleteItem204Response{}, nil
}

// deleteItemIn puts the item into the trash: the row stays, with a new version that says that it is deleted.
func (s *server) deleteItemIn(ctx context.Context, q *db.Queries, id uuid.UUID, match *string) (row db.GetItemRow, err error) {
	if row, err = lockItem(ctx, q, id, match); err != nil {
		return row, err
	}
	row.UpdatedBy, row.UpdatedAt = caller(ctx).id(), s.now()
	if row.Version, err = q.DeleteItem(ctx, &row.UpdatedAt, row.UpdatedBy, row.ID); err != nil {
		return row, fmt.Errorf("delete the item: %w", err)
	}
	return row, emitItem(ctx, q, event.ItemDeleted, row, []string{})
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
			ID: row.ID, Title: row.Title, Content: row.Content, SourceUrl: row.SourceUrl, Metadata: row.Metadata, UpdatedBy: row.UpdatedBy, UpdatedAt: row.UpdatedAt,
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

func emitItem(ctx context.Context, q *db.Queries, eventType event.Type, row db.GetItemRow, changed []string) error {
	return emit(ctx, q, eventType, itemEntity(row.ID, row.CollectionID), row.UpdatedAt, event.ItemData{
		ItemID: row.ID, CollectionID: row.CollectionID, EntityVersion: row.Version, ChangedFields: changed, SourceURL: row.SourceUrl,
	})
}
