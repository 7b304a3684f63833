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

// deleteBatch is how many items of a deleted collection are handled at a time: it bounds memory, not the transaction.
const deleteBatch = 1000

const noCollection = "there is no such collection, or you are not a member of it"

// CreateCollection implements gen.StrictServerInterface.
func (s *server) CreateCollection(ctx context.Context, request gen.CreateCollectionRequestObject) (gen.CreateCollectionResponseObject, error) {
	p, err := userOnly(ctx)
	if err != nil {
		return nil, err
	}
	id, err := newID()
	if err != nil {
		return nil, err
	}
	membership, err := newID()
	if err != nil {
		return nil, err
	}
	body := gen.Collection{ID: id, Name: request.Body.Name, Version: 1, MyRole: gen.Owner, CreatedBy: p.id(), CreatedAt: s.now()}
	body.UpdatedAt = body.CreatedAt
	if request.Body.Description != nil {
		body.Description = *request.Body.Description
	}
	err = s.write(ctx, func(q *db.Queries) error {
		err := q.CreateCollection(ctx, db.CreateCollectionParams{
			ID: id, Name: body.Name, Description: body.Description, CreatedBy: p.id(), CreatedAt: body.CreatedAt, MembershipID: membership,
		})
		if err != nil {
			return fmt.Errorf("create the collection: %w", err)
		}
		return emit(ctx, q, event.CollectionCreated, collectionEntity(id), body.CreatedAt, event.CollectionData{
			CollectionID: id, EntityVersion: 1, ChangedFields: []string{"name", "description"}, Name: body.Name,
		})
	})
	if err != nil {
		return nil, err
	}
	location := "/v1/collections/" + id.String()
	return gen.CreateCollection201JSONResponse{Body: body, Headers: gen.CreateCollection201ResponseHeaders{Location: &location}}, nil
}

// ListCollections implements gen.StrictServerInterface.
func (s *server) ListCollections(ctx context.Context, request gen.ListCollectionsRequestObject) (gen.ListCollectionsResponseObject, error) {
	p := caller(ctx)
	from, err := s.cursors.decode(request.Params.Cursor, position{ID: lastID}, "collections", p.id())
	if err != nil {
		return nil, err
	}
	size := pageSize(request.Params.Limit)
	rows, err := s.queries.ListCollections(ctx, p.id(), from.ID, size+1)
	if err != nil {
		return nil, fmt.Errorf("list collections: %w", err)
	}
	rows, more := cut(rows, size)
	out := gen.ListCollections200JSONResponse{Items: make([]gen.Collection, len(rows))}
	for i, row := range rows {
		out.Items[i] = collectionBody(db.GetCollectionRow(row))
	}
	if more {
		out.NextCursor, err = s.next(ctx, position{ID: rows[len(rows)-1].ID}, "collections", p.id())
	}
	return out, err
}

// GetCollection implements gen.StrictServerInterface.
func (s *server) GetCollection(ctx context.Context, request gen.GetCollectionRequestObject) (gen.GetCollectionResponseObject, error) {
	row, err := getCollection(ctx, s.queries, request.ID)
	if err != nil {
		return nil, err
	}
	tag := etag(row.Version)
	return gen.GetCollection200JSONResponse{Body: collectionBody(row), Headers: gen.GetCollection200ResponseHeaders{ETag: &tag}}, nil
}

// UpdateCollection implements gen.StrictServerInterface.
func (s *server) UpdateCollection(ctx context.Context, request gen.UpdateCollectionRequestObject) (gen.UpdateCollectionResponseObject, error) {
	patch := request.JSONBody
	if patch == nil {
		patch = request.ApplicationMergePatchPlusJSONBody
	}
	var row db.GetCollectionRow
	err := s.write(ctx, func(q *db.Queries) (err error) {
		if row, err = lockCollection(ctx, q, request.ID, gen.Owner); err != nil {
			return err
		}
		var changed []string
		if patch.Name != nil && *patch.Name != row.Name {
			row.Name, changed = *patch.Name, append(changed, "name")
		}
		if patch.Description != nil && *patch.Description != row.Description {
			row.Description, changed = *patch.Description, append(changed, "description")
		}
		if len(changed) == 0 {
			return nil
		}
		row.UpdatedAt = s.now()
		row.Version, err = q.UpdateCollection(ctx, db.UpdateCollectionParams{
			ID: row.ID, Name: row.Name, Description: row.Description, UpdatedAt: row.UpdatedAt,
		})
		if err != nil {
			return fmt.Errorf("update the collection: %w", err)
		}
		return emit(ctx, q, event.CollectionUpdated, collectionEntity(row.ID), row.UpdatedAt, event.CollectionData{
			CollectionID: row.ID, EntityVersion: row.Version, ChangedFields: changed, Name: row.Name,
		})
	})
	if err != nil {
		return nil, err
	}
	tag := etag(row.Version)
	return gen.UpdateCollection200JSONResponse{Body: collectionBody(row), Headers: gen.UpdateCollection200ResponseHeaders{ETag: &tag}}, nil
}

// DeleteCollection implements gen.StrictServerInterface. Its items are deleted with it, each with a version and an event of its own: that is how
// search learns that they are gone.
func (s *server) DeleteCollection(ctx context.Context, request gen.DeleteCollectionRequestObject) (gen.DeleteCollectionResponseObject, error) {
	err := s.write(ctx, func(q *db.Queries) error {
		row, err := lockCollection(ctx, q, request.ID, gen.Owner)
		if err != nil {
			return err
		}
		at := s.now()
		version, err := q.DeleteCollection(ctx, &at, row.ID)
		if err != nil {
			return fmt.Errorf("delete the collection: %w", err)
		}
		if err := deleteItems(ctx, q, row.ID, at); err != nil {
			return err
		}
		return emit(ctx, q, event.CollectionDeleted, collectionEntity(row.ID), at, event.CollectionData{
			CollectionID: row.ID, EntityVersion: version, ChangedFields: []string{}, Name: row.Name,
		})
	})
	if err != nil {
		return nil, err
	}
	return gen.DeleteCollection204Response{}, nil
}

func deleteItems(ctx context.Context, q *db.Queries, collection uuid.UUID, at time.Time) error {
	for {
		deleted, err := q.DeleteItemsOfCollection(ctx, db.DeleteItemsOfCollectionParams{
			DeletedAt: &at, UpdatedBy: caller(ctx).id(), CollectionID: collection, BatchSize: deleteBatch,
		})
		if err != nil {
			return fmt.Errorf("delete the collection's items: %w", err)
		}
		if len(deleted) == 0 {
			return nil
		}
		rows := make([]db.InsertOutboxManyParams, len(deleted))
		for i, item := range deleted {
			envelope, err := newEvent(ctx, event.ItemDeleted, itemEntity(item.ID, collection), at, event.ItemData{
				ItemID: item.ID, CollectionID: collection, EntityVersion: item.Version, ChangedFields: []string{}, SourceURL: item.SourceUrl,
			})
			if err != nil {
				return err
			}
			if rows[i], err = outboxRow(ctx, envelope); err != nil {
				return err
			}
		}
		if _, err := q.InsertOutboxMany(ctx, rows); err != nil {
			return fmt.Errorf("write ItemDeleted events to the outbox: %w", err)
		}
	}
}

// getCollection reads a collection as the caller sees it.
func getCollection(ctx context.Context, q *db.Queries, id uuid.UUID) (db.GetCollectionRow, error) {
	row, err := q.GetCollection(ctx, caller(ctx).id(), id)
	if missing(err) {
		return row, notFound(noCollection)
	}
	if err != nil {
		return row, fmt.Errorf("read the collection: %w", err)
	}
	return row, nil
}

// lockCollection starts a change to a collection or its members. need is the role that the caller must have; empty for any.
func lockCollection(ctx context.Context, q *db.Queries, id uuid.UUID, need gen.Role) (db.GetCollectionRow, error) {
	if _, err := q.LockCollection(ctx, id); missing(err) {
		return db.GetCollectionRow{}, notFound(noCollection)
	} else if err != nil {
		return db.GetCollectionRow{}, fmt.Errorf("lock the collection: %w", err)
	}
	row, err := getCollection(ctx, q, id)
	if err != nil {
		return row, err
	}
	if need != "" && row.Role != string(need) {
		return row, needsRole(row.Role, need)
	}
	return row, nil
}

func collectionBody(row db.GetCollectionRow) gen.Collection {
	return gen.Collection{
		ID: row.ID, Name: row.Name, Description: row.Description, Version: row.Version, MyRole: gen.Role(row.Role), CreatedBy: row.CreatedBy,
		CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(),
	}
}
