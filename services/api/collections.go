package api

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/tasks"
	"github.com/atlas-platform/atlas/services/api/gen"
)

const noCollection = "there is no such collection, or you are not a member of it"

// CreateCollection implements gen.StrictServerInterface.
func (s *server) CreateCollection(ctx context.Context, request gen.CreateCollectionRequestObject) (gen.CreateCollectionResponseObject, error) {
	if _, err := userOnly(ctx); err != nil {
		return nil, err
	}
	return writeOnce(ctx, s, request.Params.IdempotencyKey, request, gen.CreateCollectionResponseObject.VisitCreateCollectionResponse,
		func(q *db.Queries) (gen.CreateCollectionResponseObject, error) {
			body, err := s.createCollectionIn(ctx, q, request.Body)
			if err != nil {
				return nil, err
			}
			tag, location := etag(body.Version), "/v1/collections/"+body.ID.String()
			return gen.CreateCollection201JSONResponse{
				Body: body, Headers: gen.CreateCollection201ResponseHeaders{ETag: &tag, Location: &location},
			}, nil
		})
}

func (s *server) createCollectionIn(ctx context.Context, q *db.Queries, input *gen.CollectionCreate) (gen.Collection, error) {
	id, err := newID()
	if err != nil {
		return gen.Collection{}, err
	}
	membership, err := newID()
	if err != nil {
		return gen.Collection{}, err
	}
	body := gen.Collection{
		ID: id, Name: input.Name, Version: 1, MyRole: gen.Owner, MemberCount: 1, CreatedBy: caller(ctx).id(), CreatedAt: s.now(),
	}
	body.UpdatedAt = body.CreatedAt
	if input.Description != nil {
		body.Description = *input.Description
	}
	err = q.CreateCollection(ctx, db.CreateCollectionParams{
		ID: id, Name: body.Name, Description: body.Description, CreatedBy: body.CreatedBy, CreatedAt: body.CreatedAt, MembershipID: membership,
	})
	if err != nil {
		return body, fmt.Errorf("create the collection: %w", err)
	}
	return body, emit(ctx, q, event.CollectionCreated, collectionEntity(id), body.CreatedAt, event.CollectionData{
		CollectionID: id, EntityVersion: 1, ChangedFields: []string{"name", "description"}, Name: body.Name,
	})
}

// ListCollections implements gen.StrictServerInterface.
func (s *server) ListCollections(ctx context.Context, request gen.ListCollectionsRequestObject) (gen.ListCollectionsResponseObject, error) {
	p := caller(ctx)
	from, err := s.resume(request.Params.Cursor, position{ID: lastID}, "collections", p.id())
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
		out.Items[i] = collectionBody(db.GetCountedCollectionRow(row))
	}
	if more {
		out.NextCursor, err = s.next(ctx, position{ID: rows[len(rows)-1].ID}, "collections", p.id())
	}
	return out, err
}

// GetCollection implements gen.StrictServerInterface.
func (s *server) GetCollection(ctx context.Context, request gen.GetCollectionRequestObject) (gen.GetCollectionResponseObject, error) {
	row, err := countedCollection(ctx, s.queries, request.ID)
	if err != nil {
		return nil, err
	}
	tag := etag(row.Version)
	if ifNoneMatch(request.Params.IfNoneMatch, row.Version) {
		return gen.GetCollection304Response{Headers: gen.GetCollection304ResponseHeaders{ETag: &tag}}, nil
	}
	return gen.GetCollection200JSONResponse{Body: collectionBody(row), Headers: gen.GetCollection200ResponseHeaders{ETag: &tag}}, nil
}

// UpdateCollection implements gen.StrictServerInterface.
func (s *server) UpdateCollection(ctx context.Context, request gen.UpdateCollectionRequestObject) (gen.UpdateCollectionResponseObject, error) {
	patch := request.JSONBody
	if patch == nil {
		patch = request.ApplicationMergePatchPlusJSONBody
	}
	var row db.GetCountedCollectionRow
	err := s.write(ctx, func(q *db.Queries) error {
		if err := s.updateCollectionIn(ctx, q, request.ID, request.Params.IfMatch, patch); err != nil {
			return err
		}
		var err error
		row, err = countedCollection(ctx, q, request.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	tag := etag(row.Version)
	return gen.UpdateCollection200JSONResponse{Body: collectionBody(row), Headers: gen.UpdateCollection200ResponseHeaders{ETag: &tag}}, nil
}

// updateCollectionIn changes the collection while it has the version that match, an If-Match header, names. A patch that changes nothing writes
// nothing.
func (s *server) updateCollectionIn(ctx context.Context, q *db.Queries, id uuid.UUID, match *string, patch *gen.CollectionPatch) error {
	row, err := lockCollectionIf(ctx, q, id, match)
	if err != nil {
		return err
	}
	var changed []string
	if patch.Name != nil && *patch.Name != row.Name {
		row.Name, changed = *patch.Name, append(changed, "name")
	}
	if patch.Description != nil && *patch.Description != row.Description {
		row.Description, changed = *patch.Description, append(changed, "description")
	}
	if patch.Enrich != nil && *patch.Enrich != row.Enrich {
		row.Enrich, changed = *patch.Enrich, append(changed, "enrich")
	}
	if len(changed) == 0 {
		return nil
	}
	row.UpdatedAt = s.now()
	row.Version, err = q.UpdateCollection(ctx, db.UpdateCollectionParams{
		ID: row.ID, Name: row.Name, Description: row.Description, Enrich: row.Enrich, UpdatedAt: row.UpdatedAt,
	})
	if err != nil {
		return fmt.Errorf("update the collection: %w", err)
	}
	return emit(ctx, q, event.CollectionUpdated, collectionEntity(row.ID), row.UpdatedAt, event.CollectionData{
		CollectionID: row.ID, EntityVersion: row.Version, ChangedFields: changed, Name: row.Name,
	})
}

// DeleteCollection implements gen.StrictServerInterface. From its commit on nothing in the collection can be seen or changed, because every query
// looks at the collection too. Its items, of which there may be millions, are the work of a job: each gets a version and an event of its own.
func (s *server) DeleteCollection(ctx context.Context, request gen.DeleteCollectionRequestObject) (gen.DeleteCollectionResponseObject, error) {
	err := s.write(ctx, func(q *db.Queries) error {
		row, err := lockCollectionIf(ctx, q, request.ID, request.Params.IfMatch)
		if err != nil {
			return err
		}
		at := s.now()
		version, err := q.DeleteCollection(ctx, &at, row.ID)
		if err != nil {
			return fmt.Errorf("delete the collection: %w", err)
		}
		err = emit(ctx, q, event.CollectionDeleted, collectionEntity(row.ID), at, event.CollectionData{
			CollectionID: row.ID, EntityVersion: version, ChangedFields: []string{}, Name: row.Name,
		})
		if err != nil {
			return err
		}
		return queuePurge(ctx, q, row.ID)
	})
	if err != nil {
		return nil, err
	}
	s.wake()
	return gen.DeleteCollection204Response{}, nil
}

// queuePurge ends what goes on in a deleted collection and has its items deleted.
func queuePurge(ctx context.Context, q *db.Queries, collection uuid.UUID) error {
	if err := q.EraseJobSchedulesOf(ctx, collection); err != nil {
		return fmt.Errorf("delete the collection's schedules: %w", err)
	}
	actor := caller(ctx).actor()
	_, _, err := jobs.Enqueue(ctx, q, jobs.NewJob{
		Type: tasks.TypePurge, Parameters: tasks.PurgeParameters{CollectionID: collection}, CollectionID: &collection, CreatedBy: actor, Actor: actor,
	})
	return err
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

// countedCollection is getCollection with the numbers of items and members.
func countedCollection(ctx context.Context, q *db.Queries, id uuid.UUID) (db.GetCountedCollectionRow, error) {
	row, err := q.GetCountedCollection(ctx, caller(ctx).id(), id)
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
	if _, err := q.LockCollection(ctx, id, caller(ctx).id()); missing(err) {
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

// lockCollectionIf is lockCollection for an owner's change to the collection itself, which has to have the version that If-Match names.
func lockCollectionIf(ctx context.Context, q *db.Queries, id uuid.UUID, match *string) (db.GetCollectionRow, error) {
	row, err := lockCollection(ctx, q, id, gen.Owner)
	if err == nil && !ifMatch(match, row.Version) {
		err = preconditionFailed(row.Version)
	}
	return row, err
}

func collectionBody(row db.GetCountedCollectionRow) gen.Collection {
	return gen.Collection{
		ID: row.ID, Name: row.Name, Description: row.Description, Enrich: row.Enrich, Version: row.Version, MyRole: gen.Role(row.Role), ItemCount: row.Items,
		MemberCount: row.Members, CreatedBy: row.CreatedBy, CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(),
	}
}
