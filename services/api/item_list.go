package api

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/postgres/itempage"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// ListItems implements gen.StrictServerInterface.
func (s *server) ListItems(ctx context.Context, request gen.ListItemsRequestObject) (gen.ListItemsResponseObject, error) {
	params, size := request.Params, pageSize(request.Params.Limit)
	query := itempage.Query{User: caller(ctx).id(), Filter: itemFilter(ctx, params), Sort: itempage.Newest, Size: size + 1}
	if params.Sort != nil {
		query.Sort = itempage.Sort(*params.Sort)
	}
	scope := listScope(query)
	from, err := s.resume(params.Cursor, position{}, scope...)
	if err != nil {
		return nil, err
	}
	if params.Cursor != nil {
		query.After = &itempage.Position{ID: from.ID, Time: from.Time, Title: from.Text}
	}
	rows, err := itempage.Read(ctx, s.join(ctx), query)
	if err != nil {
		return nil, fmt.Errorf("list items: %w", err)
	}
	if len(rows) == 0 && params.CollectionID != nil {
		// An empty page of a collection that the caller can't see must not look like an empty collection.
		if _, err := getCollection(ctx, s.queries, *params.CollectionID); err != nil {
			return nil, err
		}
	}
	rows, more := cut(rows, size)
	out := gen.ListItems200JSONResponse{Items: make([]gen.ItemSummary, len(rows))}
	for i, row := range rows {
		out.Items[i] = summaryBody(row)
	}
	if more {
		out.NextCursor, err = s.next(ctx, listPosition(query.Sort, rows[len(rows)-1]), scope...)
	}
	return out, err
}

// itemFilter reads the filters that the specification has checked.
func itemFilter(ctx context.Context, params gen.ListItemsParams) itempage.Filter {
	filter := itempage.Filter{
		Collection: params.CollectionID, Tags: wantedTags(params.Tag), HasSource: params.HasSource,
		CreatedAfter: microsecond(params.CreatedAfter), CreatedBefore: microsecond(params.CreatedBefore),
		UpdatedAfter: microsecond(params.UpdatedAfter), UpdatedBefore: microsecond(params.UpdatedBefore),
	}
	if params.Author != nil {
		author, err := uuid.Parse(*params.Author)
		if err != nil { // it is "me"
			author = caller(ctx).id()
		}
		filter.Author = &author
	}
	return filter
}

// microsecond rounds a bound up to what PostgreSQL keeps: before and not before stay true for every time that it keeps.
func microsecond(bound *time.Time) *time.Time {
	if bound == nil {
		return nil
	}
	rounded := bound.Truncate(time.Microsecond)
	if rounded.Before(*bound) {
		rounded = rounded.Add(time.Microsecond)
	}
	return &rounded
}

// listScope is what a cursor is bound to. Times are numbers: in UTC, one may have a year that can't be written.
func listScope(q itempage.Query) []any {
	scope := []any{"items", q.User, q.Collection, q.Tags, q.Author, q.HasSource, q.Sort}
	for _, bound := range []*time.Time{q.CreatedAfter, q.CreatedBefore, q.UpdatedAfter, q.UpdatedBefore} {
		if bound == nil {
			scope = append(scope, nil)
		} else {
			scope = append(scope, bound.UnixMicro())
		}
	}
	return scope
}

// listPosition is where a page ended: the last item and what the list is sorted by.
func listPosition(sort itempage.Sort, last itempage.Row) position {
	p := position{ID: last.ID, Text: last.SortTitle}
	if sort == itempage.Updated {
		p.Time = last.UpdatedAt.UTC()
	}
	return p
}

func summaryBody(row itempage.Row) gen.ItemSummary {
	return gen.ItemSummary{
		ID: row.ID, CollectionID: row.CollectionID, Title: row.Title, SourceURL: row.SourceURL, Tags: row.Tags,
		Version: row.Version, SearchState: searchState(row.Version, row.IndexedVersion, row.FailedVersion), MyRole: gen.Role(row.Role),
		CreatedBy: row.CreatedBy, UpdatedBy: row.UpdatedBy, CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(),
	}
}
