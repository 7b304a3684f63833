package api

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

const noItem = "there is no such item, or you are not a member of its collection"

// GetItem implements gen.StrictServerInterface.
func (s *server) GetItem(ctx context.Context, request gen.GetItemRequestObject) (gen.GetItemResponseObject, error) {
	queries := s.queries
	if caller(ctx).personal {
		queries = s.reader(ctx)
	}
	row, err := getItem(ctx, queries, request.ID)
	if err != nil {
		return nil, err
	}
	tag := etag(row.Version)
	if ifNoneMatch(request.Params.IfNoneMatch, row.Version) {
		return gen.GetItem304Response{Headers: gen.GetItem304ResponseHeaders{ETag: &tag}}, nil
	}
	return gen.GetItem200JSONResponse{Body: itemBody(row), Headers: gen.GetItem200ResponseHeaders{ETag: &tag}}, nil
}

// getItem reads an item as the caller sees it.
func getItem(ctx context.Context, q *db.Queries, id uuid.UUID) (db.GetItemRow, error) {
	called := callOf(ctx)
	row, err := q.GetItem(ctx, called.principal.id(), called.principal.sessionID(), id)
	if missing(err) {
		return row, notFound(noItem)
	}
	if err != nil {
		return row, fmt.Errorf("read the item: %w", err)
	}
	if row.CallerCounts && !called.principal.personal { // an API token is looked up by its own hash
		called.confirmed = true
	}
	return row, nil
}

func canEdit(role string) bool { return role == string(gen.Owner) || role == string(gen.Editor) }

// searchState says whether search has this version of an item, or will never have it.
func searchState(version, indexed, failed int64) gen.SearchState {
	switch {
	case indexed >= version:
		return gen.Indexed
	case failed >= version:
		return gen.SearchFailed
	}
	return gen.Indexing
}

func itemBody(row db.GetItemRow) gen.Item {
	var failed int64
	var why *string
	if row.SearchError != "" {
		failed, why = row.Version, &row.SearchError
	}
	return gen.Item{
		ID: row.ID, CollectionID: row.CollectionID, Title: row.Title, Content: row.Content, SourceURL: row.SourceUrl, Tags: row.Tags, Metadata: row.Metadata,
		Version: row.Version, SearchState: searchState(row.Version, row.IndexedVersion, failed), SearchError: why, MyRole: gen.Role(row.Role),
		CreatedBy: row.CreatedBy, UpdatedBy: row.UpdatedBy, CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(),
		Extract: extractBody(row.Extract),
	}
}
