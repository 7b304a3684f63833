package api

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// endOfTime is after every deletion.
var endOfTime = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// ListTrash implements gen.StrictServerInterface.
func (s *server) ListTrash(ctx context.Context, request gen.ListTrashRequestObject) (gen.ListTrashResponseObject, error) {
	p, params := caller(ctx), request.Params
	scope := []any{"trash", p.id(), params.CollectionID}
	from, err := s.resume(params.Cursor, position{ID: lastID, Time: endOfTime}, scope...)
	if err != nil {
		return nil, err
	}
	size := pageSize(params.Limit)
	rows, err := s.queries.ListTrash(ctx, db.ListTrashParams{
		UserID: p.id(), CollectionID: params.CollectionID, BeforeTime: from.Time, BeforeID: from.ID, PageSize: size + 1,
	})
	if err != nil {
		return nil, fmt.Errorf("list the trash: %w", err)
	}
	if len(rows) == 0 && params.CollectionID != nil {
		// An empty page of a collection that the caller can't see or change must not look like an empty trash.
		collection, err := getCollection(ctx, s.queries, *params.CollectionID)
		if err != nil {
			return nil, err
		}
		if !canEdit(collection.Role) {
			return nil, needsRole(collection.Role, gen.Owner, gen.Editor)
		}
	}
	rows, more := cut(rows, size)
	out := gen.ListTrash200JSONResponse{Items: make([]gen.TrashedItem, len(rows))}
	for i, row := range rows {
		out.Items[i] = gen.TrashedItem{
			ID: row.ID, CollectionID: row.CollectionID, Title: row.Title, Version: row.Version, MyRole: gen.Role(row.Role),
			DeletedBy: row.DeletedBy, DeletedAt: row.DeletedAt.UTC(), PurgedAfter: row.DeletedAt.UTC().Add(s.trashRetention),
		}
	}
	if more {
		last := rows[len(rows)-1]
		out.NextCursor, err = s.next(ctx, position{ID: last.ID, Time: last.DeletedAt.UTC()}, scope...)
	}
	return out, err
}

// RestoreItem implements gen.StrictServerInterface.
func (s *server) RestoreItem(ctx context.Context, request gen.RestoreItemRequestObject) (gen.RestoreItemResponseObject, error) {
	return retried(ctx, func() (gen.RestoreItemResponseObject, error) {
		return writeOnce(ctx, s, request.Params.IdempotencyKey, request, gen.RestoreItemResponseObject.VisitRestoreItemResponse,
			func(q *db.Queries) (gen.RestoreItemResponseObject, error) {
				row, err := s.restoreItemIn(ctx, q, request.ID, request.Params.IfMatch)
				tag := etag(row.Version)
				return gen.RestoreItem200JSONResponse{Body: itemBody(row), Headers: gen.RestoreItem200ResponseHeaders{ETag: &tag}}, err
			})
	})
}

// restoreItemIn takes the item out of the trash.
func (s *server) restoreItemIn(ctx context.Context, q *db.Queries, id uuid.UUID, match *string) (db.GetItemRow, error) {
	_, err := insistently(func(attempt int) (struct{}, error) { return struct{}{}, s.tryRestore(ctx, q, id, match, attempt) })
	if err != nil {
		return db.GetItemRow{}, err
	}
	return getItem(ctx, q, id)
}

func (s *server) tryRestore(ctx context.Context, q *db.Queries, id uuid.UUID, match *string, attempt int) error {
	head, err := getHead(ctx, q, id, attempt)
	switch {
	case err != nil:
		return err
	case !canEdit(head.Role):
		return needsRole(head.Role, gen.Owner, gen.Editor)
	case !ifMatch(match, head.Version):
		return preconditionFailed(head.Version)
	case head.DeletedAt == nil:
		return conflict("not-deleted", "the item is not in the trash")
	}
	if err := sourceIsFree(ctx, q, head.CollectionID, id, head.SourceKey); err != nil {
		return err
	}
	at, read := s.now(), head.Version
	head.Version = read + 1
	outbox, err := headEvent(ctx, event.ItemUpdated, head, at, []string{"deleted_at"})
	if err != nil {
		return err
	}
	_, err = q.RestoreItem(ctx, db.RestoreItemParams{
		ID: id, CollectionID: head.CollectionID, Version: read, UpdatedBy: caller(ctx).id(), UpdatedAt: at,
		EventID: outbox.EventID, Event: outbox.Payload, Traceparent: outbox.Traceparent,
	})
	return outrun(err, "restore the item")
}
