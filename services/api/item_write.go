package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/metadata"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// outrunAttempts bounds how often a change is worked out anew because the item changed meanwhile. From the second time on, inside a transaction, it
// waits for its turn, so it gets one.
const outrunAttempts = 4

var errOutrun = unavailable("others are changing the same item: try again")

// CreateItem implements gen.StrictServerInterface.
func (s *server) CreateItem(ctx context.Context, request gen.CreateItemRequestObject) (gen.CreateItemResponseObject, error) {
	if called := callOf(ctx); called.pending() && (request.Params.IdempotencyKey != nil || called.principal.personal) {
		if err := s.confirm(ctx, called, s.queries); err != nil {
			return nil, err
		}
	}
	if request.Params.IdempotencyKey == nil {
		row, created, err := s.createItem(ctx, request.Body)
		return createdItem(row, created), err
	}
	return retried(ctx, func() (gen.CreateItemResponseObject, error) {
		return writeOnce(ctx, s, request.Params.IdempotencyKey, request, gen.CreateItemResponseObject.VisitCreateItemResponse,
			func(q *db.Queries) (gen.CreateItemResponseObject, error) {
				row, created, err := s.createItemIn(ctx, q, request.Body)
				return createdItem(row, created), err
			})
	})
}

func createdItem(row db.GetItemRow, created bool) gen.CreateItemResponseObject {
	tag, location := etag(row.Version), "/v1/items/"+row.ID.String()
	if !created {
		return gen.CreateItem200JSONResponse{Body: itemBody(row), Headers: gen.CreateItem200ResponseHeaders{ETag: &tag, Location: &location}}
	}
	return gen.CreateItem201JSONResponse{Body: itemBody(row), Headers: gen.CreateItem201ResponseHeaders{ETag: &tag, Location: &location}}
}

// createItem is createItemIn as one statement, which needs no transaction around it, made again when it lost a race.
func (s *server) createItem(ctx context.Context, input *gen.ItemCreate) (row db.GetItemRow, created bool, err error) {
	row, err = retried(ctx, func() (row db.GetItemRow, err error) {
		row, created, err = s.createItemIn(ctx, s.queries, input)
		return row, err
	})
	if created && err == nil {
		s.nudge()
	}
	return row, created, err
}

// createItemIn checks the input and makes the item, or finds the one that has its source already: then created is false.
func (s *server) createItemIn(ctx context.Context, q *db.Queries, input *gen.ItemCreate) (row db.GetItemRow, created bool, err error) {
	row, err = s.newItem(ctx, input)
	if err != nil {
		return row, false, err
	}
	params, err := createParams(ctx, row)
	if err != nil {
		return row, false, err
	}
	for range outrunAttempts {
		result, err := q.CreateItem(ctx, params)
		if err == nil {
			callOf(ctx).confirmed = true // by the statement
		}
		switch {
		case missing(err):
			return row, false, notFound(noCollection)
		case err != nil:
			return row, false, fmt.Errorf("create the item: %w", err)
		case !canEdit(result.Role):
			return row, false, needsRole(result.Role, gen.Owner, gen.Editor)
		case result.Created:
			row.Role = result.Role
			return row, true, nil
		}
		existing, err := q.GetItemBySource(ctx, row.CollectionID, params.SourceKey)
		if err == nil {
			var known db.GetItemRow
			if known, err = q.GetItem(ctx, caller(ctx).id(), nil, existing); err == nil {
				return known, false, nil
			}
		}
		if !missing(err) {
			return row, false, fmt.Errorf("read the item with the source: %w", err)
		}
	}
	return row, false, errOutrun
}

// newItem is what the input asks for, checked.
func (s *server) newItem(ctx context.Context, input *gen.ItemCreate) (db.GetItemRow, error) {
	source, wrong := checkItem(&input.Content, input.SourceURL, input.Tags)
	wrong = append(wrong, checkTitle(input.Title, input.SourceURL)...)
	var object metadata.Object
	if input.Metadata != nil {
		var err error
		object, err = metadata.Parse(*input.Metadata)
		wrong = append(wrong, metadataError(err)...)
	}
	if len(wrong) > 0 {
		return db.GetItemRow{}, unprocessable(wrong...)
	}
	id, err := newID()
	if err != nil {
		return db.GetItemRow{}, err
	}
	user, at := caller(ctx).id(), s.now()
	return db.GetItemRow{
		ID: id, CollectionID: input.CollectionID, Title: titleOf(input.Title), Content: input.Content, SourceUrl: source, Metadata: object.Encode(),
		Version: 1, CreatedBy: user, UpdatedBy: user, CreatedAt: at, UpdatedAt: at, Tags: wantedTags(input.Tags),
	}, nil
}

// titleOf is the title that is stored: a blank one is empty.
func titleOf(title string) string {
	if strings.TrimSpace(title) == "" {
		return ""
	}
	return title
}

func createParams(ctx context.Context, row db.GetItemRow) (db.CreateItemParams, error) {
	ids, err := newIDs(len(row.Tags))
	if err != nil {
		return db.CreateItemParams{}, err
	}
	outbox, err := itemEvent(ctx, event.ItemCreated, row, everyField())
	return db.CreateItemParams{
		ID: row.ID, UserID: row.CreatedBy, SessionID: caller(ctx).sessionID(), CollectionID: row.CollectionID, Title: row.Title, Content: row.Content, SourceUrl: row.SourceUrl,
		SourceKey: sourceKeyOf(row.SourceUrl), Metadata: row.Metadata, CreatedAt: row.CreatedAt, TagIds: ids, Tags: row.Tags,
		EventID: outbox.EventID, Event: outbox.Payload, Traceparent: outbox.Traceparent,
	}, err
}

// DeleteItem implements gen.StrictServerInterface.
func (s *server) DeleteItem(ctx context.Context, request gen.DeleteItemRequestObject) (gen.DeleteItemResponseObject, error) {
	if _, err := s.deleteItem(ctx, request.ID, request.Params.IfMatch); err != nil {
		return nil, err
	}
	return gen.DeleteItem204Response{}, nil
}

// deleteItem is deleteItemIn without a transaction around it, unless others change the item too.
func (s *server) deleteItem(ctx context.Context, id uuid.UUID, match *string) (db.GetItemHeadRow, error) {
	return alone(ctx, s, func(q *db.Queries, attempt int) (db.GetItemHeadRow, error) {
		return s.tryDelete(ctx, q, id, match, attempt)
	})
}

// deleteItemIn puts the item into the trash: the row stays, with a new version that says that it is deleted.
func (s *server) deleteItemIn(ctx context.Context, q *db.Queries, id uuid.UUID, match *string) (db.GetItemHeadRow, error) {
	return insistently(func(attempt int) (db.GetItemHeadRow, error) { return s.tryDelete(ctx, q, id, match, attempt) })
}

func (s *server) tryDelete(ctx context.Context, q *db.Queries, id uuid.UUID, match *string, attempt int) (db.GetItemHeadRow, error) {
	head, err := getHead(ctx, q, id, attempt)
	switch {
	case err != nil:
		return head, err
	case head.DeletedAt != nil:
		return head, notFound(noItem)
	case !canEdit(head.Role):
		return head, needsRole(head.Role, gen.Owner, gen.Editor)
	case !ifMatch(match, head.Version):
		return head, preconditionFailed(head.Version)
	}
	at, user := s.now(), caller(ctx).id()
	read := head.Version
	head.Version, head.DeletedAt = read+1, &at
	outbox, err := headEvent(ctx, event.ItemDeleted, head, at, []string{})
	if err != nil {
		return head, err
	}
	_, err = q.DeleteItem(ctx, db.DeleteItemParams{
		ID: id, Version: read, UpdatedBy: user, DeletedAt: &at, EventID: outbox.EventID, Event: outbox.Payload, Traceparent: outbox.Traceparent,
	})
	return head, outrun(err, "delete the item")
}

// getHead reads what decides about an item's deletion or restoration. A writer that was outrun before locks the item first.
func getHead(ctx context.Context, q *db.Queries, id uuid.UUID, attempt int) (db.GetItemHeadRow, error) {
	if err := lockOutrun(ctx, q, id, attempt); err != nil {
		return db.GetItemHeadRow{}, err
	}
	head, err := q.GetItemHead(ctx, caller(ctx).id(), id)
	if missing(err) {
		return head, notFound(noItem)
	}
	if err != nil {
		return head, fmt.Errorf("read the item: %w", err)
	}
	return head, nil
}

func lockOutrun(ctx context.Context, q *db.Queries, id uuid.UUID, attempt int) error {
	if attempt == 0 {
		return nil
	}
	if err := q.LockItem(ctx, id); err != nil {
		return fmt.Errorf("lock the item: %w", err)
	}
	return nil
}

// outrun turns the error of a guarded write: no row means that the item had another version by then.
func outrun(err error, what string) error {
	switch {
	case err == nil:
		return nil
	case missing(err):
		return errOutrun
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
}

// insistently works a change out again, in the caller's transaction, while others are faster.
func insistently[T any](try func(attempt int) (T, error)) (out T, err error) {
	for attempt := range outrunAttempts {
		if out, err = try(attempt); !errors.Is(err, errOutrun) {
			return out, err
		}
	}
	return out, err
}

// alone makes a change that is a read and one statement: without a transaction, which is two round trips less; when another writer of the item was
// faster, in a transaction that locks it.
func alone[T any](ctx context.Context, s *server, try func(q *db.Queries, attempt int) (T, error)) (T, error) {
	return retried(ctx, func() (T, error) {
		out, err := try(s.queries, 0)
		if err == nil {
			s.nudge()
		}
		if !errors.Is(err, errOutrun) {
			return out, err
		}
		err = s.write(ctx, func(q *db.Queries) (err error) {
			out, err = insistently(func(attempt int) (T, error) { return try(q, attempt+1) })
			return err
		})
		return out, err
	})
}

// itemEvent is the outbox row of a change of the item, which has its new version already.
func itemEvent(ctx context.Context, eventType event.Type, row db.GetItemRow, changed []string) (db.InsertOutboxManyParams, error) {
	head := db.GetItemHeadRow{ID: row.ID, CollectionID: row.CollectionID, SourceUrl: row.SourceUrl, Version: row.Version}
	return headEvent(ctx, eventType, head, row.UpdatedAt, changed)
}

// everyField are the fields of a revision, all of which a new item has.
func everyField() []string { return []string{"title", "content", "source_url", "tags", "metadata"} }

func newIDs(count int) ([]uuid.UUID, error) {
	ids := make([]uuid.UUID, count)
	for i := range ids {
		var err error
		if ids[i], err = newID(); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

func asJSON(value any) (json.RawMessage, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode what a change replaced: %w", err)
	}
	return content, nil
}
