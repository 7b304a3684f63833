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

// suggestRounds is how often it is asked again when too much of what the index suggests is not there any more.
const suggestRounds = 5

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
	if err := s.suggestItems(ctx, &out, search.Prefix{Text: text, CollectionIDs: collections}, limit, roles); err != nil {
		return nil, err
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

// suggestItems suggests what the index knows and the database confirms. What was moved away or deleted since it was indexed must not take the place
// of what is there, nor change the answer in any other way.
func (s *server) suggestItems(
	ctx context.Context, out *gen.Suggest200JSONResponse, prefix search.Prefix, limit int, roles map[uuid.UUID]gen.Role,
) (err error) {
	if prefix.NotItems, err = s.movedAway(ctx, prefix.CollectionIDs, true); err != nil {
		return err
	}
	prefix.Limit = 2 * limit
	for range suggestRounds {
		found, err := s.searcher.Suggest(ctx, prefix)
		if err != nil {
			return searchProblem(err)
		}
		ids := make([]uuid.UUID, len(found.Items))
		for i, item := range found.Items {
			ids[i] = item.ItemID
		}
		truths, err := s.truths(ctx, ids, roles)
		if err != nil {
			return err
		}
		out.Degraded, out.Items = found.Degraded, []gen.SuggestedItem{}
		for _, item := range found.Items {
			if t, ok := truths[item.ItemID]; !ok {
				prefix.NotItems = append(prefix.NotItems, item.ItemID)
			} else if len(out.Items) < limit {
				out.Items = append(out.Items, gen.SuggestedItem{ID: item.ItemID, CollectionID: t.collection, Title: item.Title})
			}
		}
		if len(out.Items) == limit || len(found.Items) < prefix.Limit {
			return nil
		}
		prefix.Limit = search.MaxLimit
	}
	return nil
}
