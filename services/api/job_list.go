package api

import (
	"context"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/postgres/jobpage"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// ListJobs implements gen.StrictServerInterface.
func (s *server) ListJobs(ctx context.Context, request gen.ListJobsRequestObject) (gen.ListJobsResponseObject, error) {
	p, params := caller(ctx), request.Params
	scope := []any{"jobs", p.id(), params.CollectionID, params.Type, params.State, params.CreatedAfter, params.CreatedBefore, params.IdempotencyKey}
	from, err := s.resume(params.Cursor, position{ID: lastID}, scope...)
	if err != nil {
		return nil, err
	}
	size := pageSize(params.Limit)
	query := jobpage.Query{
		Collection: params.CollectionID, Types: texts(params.Type), States: texts(params.State), CreatedAfter: params.CreatedAfter,
		CreatedBefore: params.CreatedBefore, Key: params.IdempotencyKey, Creator: creator(p), Before: from.ID, Size: size + 1,
	}
	switch user := p.id(); {
	case params.CollectionID != nil:
		if err := s.checkJobs(ctx, *params.CollectionID); err != nil {
			return nil, err
		}
	case !p.admin:
		query.Member = &user
	}
	rows, err := jobpage.Read(ctx, s.pool, query)
	if err != nil {
		return nil, err
	}
	rows, more := cut(rows, size)
	out := gen.ListJobs200JSONResponse{Items: make([]gen.Job, len(rows))}
	for i, row := range rows {
		out.Items[i] = jobBody(row, p.admin, false)
	}
	if more {
		out.NextCursor, err = s.next(ctx, position{ID: rows[len(rows)-1].ID}, scope...)
	}
	return out, err
}

// creator is who a caller's jobs belong to: Atlas itself where a part of it calls.
func creator(p principal) uuid.UUID {
	if actor := p.actor(); actor != nil {
		return *actor
	}
	return uuid.Nil
}

// texts are the values of an optional list of some kind of string.
func texts[T ~string](values *[]T) []string {
	if values == nil {
		return nil
	}
	return convert(*values, func(v T) string { return string(v) })
}
