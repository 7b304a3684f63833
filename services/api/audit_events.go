package api

import (
	"context"
	"fmt"
	"time"

	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// never is after every time that is stored.
var never = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// ListAuditEvents implements gen.StrictServerInterface.
func (s *server) ListAuditEvents(ctx context.Context, request gen.ListAuditEventsRequestObject) (gen.ListAuditEventsResponseObject, error) {
	p, params := caller(ctx), request.Params
	scope := []any{
		"audit", p.id(), params.CollectionID, params.EntityID, params.ActorUserID, params.EventType, params.From, params.To,
	}
	before, err := s.resume(params.Cursor, position{Time: never, ID: lastID}, scope...)
	if err != nil {
		return nil, err
	}
	if err := s.checkAudit(ctx, p, params); err != nil {
		return nil, err
	}
	size := pageSize(params.Limit)
	rows, err := s.auditPage(ctx, params, before, size+1)
	if err != nil {
		return nil, fmt.Errorf("list audit events: %w", err)
	}
	rows, more := cut(rows, size)
	out := gen.ListAuditEvents200JSONResponse{Items: make([]gen.AuditEvent, len(rows))}
	for i, row := range rows {
		out.Items[i] = auditBody(row)
	}
	if more {
		last := rows[len(rows)-1]
		out.NextCursor, err = s.next(ctx, position{Time: last.OccurredAt.UTC(), ID: last.EventID}, scope...)
	}
	return out, err
}

// checkAudit lets platform admins see everything and owners their collection's trail.
func (s *server) checkAudit(ctx context.Context, p principal, params gen.ListAuditEventsParams) error {
	if p.admin {
		return nil
	}
	if params.CollectionID == nil {
		const message = "is required, because you are not a platform admin"
		return badRequest("collection_id "+message, parameter("collection_id", message))
	}
	row, err := getCollection(ctx, s.queries, *params.CollectionID)
	if err != nil {
		return err
	}
	if row.Role != string(gen.Owner) {
		return needsRole(row.Role, gen.Owner)
	}
	return nil
}

// auditPage picks the query whose index is the most selective for the filters.
func (s *server) auditPage(ctx context.Context, params gen.ListAuditEventsParams, before position, size int32) ([]db.ListAuditEventsRow, error) {
	var from time.Time
	if params.From != nil {
		from = *params.From
	}
	if params.To != nil && params.To.Before(before.Time) {
		before = position{Time: *params.To} // no id is less: what happened at that very time is not on the page
	}
	switch {
	case params.EntityID != nil:
		rows, err := s.queries.ListAuditEventsByEntity(ctx, db.ListAuditEventsByEntityParams{
			EntityID: *params.EntityID, FromTime: from, BeforeTime: before.Time, BeforeID: before.ID,
			CollectionID: params.CollectionID, ActorUserID: params.ActorUserID, EventType: params.EventType, PageSize: size,
		})
		return convert(rows, func(r db.ListAuditEventsByEntityRow) db.ListAuditEventsRow { return db.ListAuditEventsRow(r) }), err
	case params.ActorUserID != nil && params.CollectionID != nil:
		rows, err := s.queries.ListAuditEventsByCollectionAndActor(ctx, db.ListAuditEventsByCollectionAndActorParams{
			CollectionID: *params.CollectionID, ActorUserID: *params.ActorUserID, FromTime: from, BeforeTime: before.Time, BeforeID: before.ID,
			EventType: params.EventType, PageSize: size,
		})
		return convert(rows, func(r db.ListAuditEventsByCollectionAndActorRow) db.ListAuditEventsRow {
			return db.ListAuditEventsRow(r)
		}), err
	case params.ActorUserID != nil:
		rows, err := s.queries.ListAuditEventsByActor(ctx, db.ListAuditEventsByActorParams{
			ActorUserID: *params.ActorUserID, FromTime: from, BeforeTime: before.Time, BeforeID: before.ID,
			EventType: params.EventType, PageSize: size,
		})
		return convert(rows, func(r db.ListAuditEventsByActorRow) db.ListAuditEventsRow { return db.ListAuditEventsRow(r) }), err
	case params.CollectionID != nil:
		rows, err := s.queries.ListAuditEventsByCollection(ctx, db.ListAuditEventsByCollectionParams{
			CollectionID: *params.CollectionID, FromTime: from, BeforeTime: before.Time, BeforeID: before.ID,
			EventType: params.EventType, PageSize: size,
		})
		return convert(rows, func(r db.ListAuditEventsByCollectionRow) db.ListAuditEventsRow { return db.ListAuditEventsRow(r) }), err
	default:
		return s.queries.ListAuditEvents(ctx, db.ListAuditEventsParams{
			FromTime: from, BeforeTime: before.Time, BeforeID: before.ID, EventType: params.EventType, PageSize: size,
		})
	}
}

func convert[From, To any](rows []From, one func(From) To) []To {
	out := make([]To, len(rows))
	for i, row := range rows {
		out[i] = one(row)
	}
	return out
}

func auditBody(row db.ListAuditEventsRow) gen.AuditEvent {
	return gen.AuditEvent{
		EventID: row.EventID, EventType: row.EventType, Version: int(row.Version), OccurredAt: row.OccurredAt.UTC(),
		ActorUserID: row.ActorUserID, TraceID: row.TraceID, Traceparent: row.Traceparent,
		Entity: gen.AuditEntity{Type: row.EntityType, ID: row.EntityID, CollectionID: row.CollectionID},
		Data:   row.Data, RecordedAt: row.RecordedAt.UTC(),
	}
}
