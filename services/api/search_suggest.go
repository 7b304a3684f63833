package api

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/search"
	"github.com/atlas-platform/atlas/services/api/gen"
)

const (
	suggestDefault = 8
	// Of so many tags, so many uses are counted: what it costs to order them.
	suggestTagsScanned = 100
	suggestTagsCounted = 50
)

// Suggest implements gen.StrictServerInterface. Rights are applied as Search does.
func (s *server) Suggest(ctx context.Context, request gen.SuggestRequestObject) (gen.SuggestResponseObject, error) {
	p, params := caller(ctx), request.Params
	limit := suggestDefault
	if params.Limit != nil {
		limit = *params.Limit
	}
	roles, err := s.visible(ctx, p.id(), params.CollectionID)
	if err != nil {
		return nil, err
	}
	out := gen.Suggest200JSONResponse{Items: []gen.SuggestedItem{}, Tags: []string{}}
	text := strings.TrimSpace(params.Q)
	switch {
	case len(roles) == 0 && params.CollectionID != nil:
		return nil, notFound(noCollection)
	case len(roles) == 0 || text == "":
		return out, nil
	}
	collections := make([]uuid.UUID, 0, len(roles))
	for id := range roles {
		collections = append(collections, id)
	}
	// More than are wanted: some may have been deleted since they were indexed.
	found, err := s.searcher.Suggest(ctx, search.Prefix{Text: text, CollectionIDs: collections, Limit: 2 * limit})
	if err != nil {
		return nil, searchProblem(err)
	}
	out.Degraded = found.Degraded
	ids := make([]uuid.UUID, len(found.Items))
	for i, item := range found.Items {
		ids[i] = item.ItemID
	}
	truths, err := s.truths(ctx, ids, roles)
	if err != nil {
		return nil, err
	}
	for _, item := range found.Items {
		if t, ok := truths[item.ItemID]; ok && len(out.Items) < limit {
			out.Items = append(out.Items, gen.SuggestedItem{ID: item.ItemID, CollectionID: t.collection, Title: item.Title})
		}
	}
	out.Tags, err = s.queries.SuggestTags(ctx, db.SuggestTagsParams{
		CollectionIds: collections, Prefix: text, Scanned: suggestTagsScanned, Counted: suggestTagsCounted,
		AtMost: int32(limit),
	})
	if err != nil {
		return nil, fmt.Errorf("suggest tags: %w", err)
	}
	return out, nil
}
