package api

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/metadata"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/transfer"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// edit changes an item in memory and names the fields that it changed.
type edit func(ctx context.Context, q *db.Queries, row *db.GetItemRow) (changed []string, err error)

// UpdateItem implements gen.StrictServerInterface.
func (s *server) UpdateItem(ctx context.Context, request gen.UpdateItemRequestObject) (gen.UpdateItemResponseObject, error) {
	patch := request.JSONBody
	if patch == nil {
		patch = request.ApplicationMergePatchPlusJSONBody
	}
	row, err := s.updateItem(ctx, request.ID, request.Params.IfMatch, patch)
	if err != nil {
		return nil, err
	}
	tag := etag(row.Version)
	return gen.UpdateItem200JSONResponse{Body: itemBody(row), Headers: gen.UpdateItem200ResponseHeaders{ETag: &tag}}, nil
}

// updateItem is updateItemIn without a transaction around it, unless it moves the item or others change it too.
func (s *server) updateItem(ctx context.Context, id uuid.UUID, match *string, patch *gen.ItemPatch) (db.GetItemRow, error) {
	change, err := patchEdit(patch)
	if err != nil {
		return db.GetItemRow{}, err
	}
	if patch.CollectionID == nil {
		return alone(ctx, s, func(q *db.Queries, attempt int) (db.GetItemRow, error) {
			return s.tryEdit(ctx, q, id, match, change, attempt)
		})
	}
	return retried(ctx, func() (row db.GetItemRow, err error) {
		err = s.write(ctx, func(q *db.Queries) (err error) {
			row, err = s.editItemIn(ctx, q, id, match, change)
			return err
		})
		return row, err
	})
}

// updateItemIn checks the patch and changes the item while it has the version that match, an If-Match header, names. A patch that changes nothing
// writes nothing: no version, no event. q must be a transaction's when the patch moves the item.
func (s *server) updateItemIn(ctx context.Context, q *db.Queries, id uuid.UUID, match *string, patch *gen.ItemPatch) (db.GetItemRow, error) {
	change, err := patchEdit(patch)
	if err != nil {
		return db.GetItemRow{}, err
	}
	return s.editItemIn(ctx, q, id, match, change)
}

// editItemIn reads the item, edits it and saves it, in the caller's transaction.
func (s *server) editItemIn(ctx context.Context, q *db.Queries, id uuid.UUID, match *string, change edit) (db.GetItemRow, error) {
	return insistently(func(attempt int) (db.GetItemRow, error) { return s.tryEdit(ctx, q, id, match, change, attempt) })
}

func (s *server) tryEdit(ctx context.Context, q *db.Queries, id uuid.UUID, match *string, change edit, attempt int) (db.GetItemRow, error) {
	if err := lockOutrun(ctx, q, id, attempt); err != nil {
		return db.GetItemRow{}, err
	}
	former, err := getItem(ctx, q, id)
	switch {
	case err != nil:
		return former, err
	case !canEdit(former.Role):
		return former, needsRole(former.Role, gen.Owner, gen.Editor)
	case !ifMatch(match, former.Version):
		return former, preconditionFailed(former.Version)
	}
	row := former
	changed, err := change(ctx, q, &row)
	if err != nil || len(changed) == 0 {
		return row, err
	}
	row.Version, row.UpdatedBy, row.UpdatedAt = former.Version+1, caller(ctx).id(), s.now()
	return row, saveItem(ctx, q, former, row, changed)
}

// patchEdit checks a patch, as far as that is possible without the item.
func patchEdit(patch *gen.ItemPatch) (edit, error) {
	var given *string
	if value, err := patch.SourceURL.Get(); err == nil {
		given = &value
	}
	source, wrong := checkItem(patch.Content, given, patch.Tags)
	if len(patch.Metadata) > 0 {
		if _, err := metadata.Object(nil).Apply(patch.Metadata); err != nil {
			wrong = append(wrong, metadataError(err)...)
		}
	}
	if len(wrong) > 0 {
		return nil, unprocessable(wrong...)
	}
	return func(ctx context.Context, q *db.Queries, row *db.GetItemRow) ([]string, error) {
		if patch.CollectionID != nil && *patch.CollectionID != row.CollectionID {
			if err := moveItem(ctx, q, row, *patch.CollectionID); err != nil {
				return nil, err
			}
			changed, err := applyPatch(row, patch, source)
			return append([]string{"collection_id"}, changed...), err
		}
		return applyPatch(row, patch, source)
	}, nil
}

// moveItem puts the item, in memory, into another collection, which it locks.
func moveItem(ctx context.Context, q *db.Queries, row *db.GetItemRow, target uuid.UUID) error {
	role, err := q.LockCollectionForItems(ctx, caller(ctx).id(), target)
	switch {
	case missing(err):
		return notFound("the collection to move to does not exist, or you are not a member of it")
	case err != nil:
		return fmt.Errorf("lock the collection to move to: %w", err)
	case !canEdit(role):
		return forbidden(fmt.Sprintf("your role in the collection to move to is %s; this needs owner or editor", role))
	}
	row.CollectionID, row.Role = target, role
	return nil
}

// applyPatch merges a patch into the item and names the fields that it changed. source is the patch's source_url in canonical form.
func applyPatch(row *db.GetItemRow, patch *gen.ItemPatch, source *string) ([]string, error) {
	var changed []string
	if patch.Title != nil && *patch.Title != row.Title {
		row.Title, changed = *patch.Title, append(changed, "title")
	}
	if patch.Content != nil && *patch.Content != row.Content {
		row.Content, changed = *patch.Content, append(changed, "content")
	}
	if patch.SourceURL.IsSpecified() && !equal(source, row.SourceUrl) {
		row.SourceUrl, changed = source, append(changed, "source_url")
		if wrong := checkTitle(row.Title, row.SourceUrl); len(wrong) > 0 {
			return nil, unprocessable(wrong...)
		}
		row.Extract = nil // it was the former source's
	}
	if patch.Tags != nil {
		if tags := transfer.NormalTags(*patch.Tags); !slices.Equal(tags, row.Tags) {
			row.Tags, changed = tags, append(changed, "tags")
		}
	}
	if len(patch.Metadata) > 0 {
		stored, err := metadata.Parse(row.Metadata)
		if err != nil {
			return nil, fmt.Errorf("read the stored metadata: %w", err)
		}
		merged, err := stored.Apply(patch.Metadata)
		if err != nil {
			return nil, unprocessable(metadataError(err)...)
		}
		if content := merged.Encode(); string(content) != string(stored.Encode()) {
			row.Metadata, changed = content, append(changed, "metadata")
		}
	}
	return changed, nil
}

func equal(a, b *string) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// saveItem writes what changed, with its revision and its event, while the item is as it was read.
func saveItem(ctx context.Context, q *db.Queries, former, row db.GetItemRow, changed []string) error {
	moved, sourced := slices.Contains(changed, "collection_id"), slices.Contains(changed, "source_url")
	if moved || sourced {
		if err := sourceIsFree(ctx, q, row.CollectionID, row.ID, sourceKeyOf(row.SourceUrl)); err != nil {
			return err
		}
	}
	before, err := replaced(former, changed)
	if err != nil {
		return err
	}
	ids, err := newIDs(len(row.Tags))
	if err != nil {
		return err
	}
	outbox, err := itemEvent(ctx, event.ItemUpdated, row, changed)
	if err != nil {
		return err
	}
	if !slices.Contains(changed, "title") && !slices.Contains(changed, "content") {
		_, err = q.TouchItem(ctx, db.TouchItemParams{
			ID: row.ID, Version: former.Version, CollectionID: row.CollectionID, SourceUrl: row.SourceUrl, SetSource: sourced,
			SourceKey: sourceKeyOf(row.SourceUrl), Metadata: row.Metadata, UpdatedBy: row.UpdatedBy, UpdatedAt: row.UpdatedAt,
			ChangedFields: changed, Before: before, SetTags: moved || slices.Contains(changed, "tags"), TagIds: ids, Tags: row.Tags,
			EventID: outbox.EventID, Event: outbox.Payload, Traceparent: outbox.Traceparent,
		})
		return outrun(err, "update the item")
	}
	_, err = q.UpdateItem(ctx, db.UpdateItemParams{
		ID: row.ID, Version: former.Version, CollectionID: row.CollectionID, Title: row.Title, Content: row.Content, SourceUrl: row.SourceUrl,
		SetSource: sourced, SourceKey: sourceKeyOf(row.SourceUrl), Metadata: row.Metadata, UpdatedBy: row.UpdatedBy, UpdatedAt: row.UpdatedAt,
		ChangedFields: changed, Before: before, SetTags: moved || slices.Contains(changed, "tags"), TagIds: ids, Tags: row.Tags,
		EventID: outbox.EventID, Event: outbox.Payload, Traceparent: outbox.Traceparent,
	})
	return outrun(err, "update the item")
}

// sourceIsFree refuses a source that another item of the collection has.
func sourceIsFree(ctx context.Context, q *db.Queries, collection, id uuid.UUID, key []byte) error {
	if key == nil {
		return nil
	}
	other, err := q.GetItemBySource(ctx, collection, key)
	switch {
	case missing(err), err == nil && other == id:
		return nil
	case err != nil:
		return fmt.Errorf("look for the source: %w", err)
	}
	return conflict("source-exists", fmt.Sprintf("the item %s of the collection has this source_url", other))
}

func headEvent(
	ctx context.Context, eventType event.Type, head db.GetItemHeadRow, at time.Time, changed []string,
) (db.InsertOutboxManyParams, error) {
	envelope, err := newEvent(ctx, eventType, itemEntity(head.ID, head.CollectionID), at, event.ItemData{
		ItemID: head.ID, CollectionID: head.CollectionID, EntityVersion: head.Version, ChangedFields: changed, SourceURL: head.SourceUrl,
	})
	if err != nil {
		return db.InsertOutboxManyParams{}, err
	}
	return postgres.OutboxRow(ctx, envelope)
}
