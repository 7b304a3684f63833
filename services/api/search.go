package api

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/search"
	parsed "github.com/atlas-platform/atlas/internal/search/query"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// indexShows is longer than it takes until a search shows what the index was given.
const indexShows = time.Minute

// Search implements gen.StrictServerInterface. Rights are applied at the time of the query: the search engine gets the collections that the
// caller may see now, and the database has the last word about each hit.
func (s *server) Search(ctx context.Context, request gen.SearchRequestObject) (gen.SearchResponseObject, error) {
	p, params := caller(ctx), request.Params
	match, err := parseQuery(params.Q, wantedTags(params.Tag))
	if err != nil {
		return nil, err
	}
	sort := search.ByRelevance
	if params.Sort != nil {
		sort = search.Sort(*params.Sort)
	}
	scope := []any{"search", p.id(), params.CollectionID, match.String(), sort}
	from, err := s.resume(params.Cursor, position{}, scope...)
	if err != nil {
		return nil, err
	}
	var waited awaited
	if params.WaitFor != nil {
		if waited, err = s.await(ctx, p.id(), *params.WaitFor); err != nil {
			return nil, err
		}
	}
	roles, err := s.visible(ctx, p.id(), params.CollectionID)
	if err != nil {
		return nil, err
	}
	if len(roles) == 0 && params.CollectionID != nil {
		return nil, notFound(noCollection)
	}
	query, err := s.resolve(ctx, match, roles)
	if err != nil {
		return nil, err
	}
	if query.NotItems, err = s.movedAway(ctx, query.CollectionIDs, from.Inner == ""); err != nil {
		return nil, err
	}
	query.AfterFresh, query.Correct = params.WaitFor != nil, params.Q != nil
	facets := wantedFacets(params.Facets)
	query.TagFacet, query.CollectionFacet = facets["tags"], facets["collections"]
	query.Sort, query.Limit, query.Cursor = sort, int(pageSize(params.Limit)), from.Inner
	page, err := s.searcher.Search(ctx, query)
	if err != nil {
		return nil, searchProblem(err)
	}
	hits, err := s.hitBodies(ctx, page.Hits, inCollections(roles, query.CollectionIDs))
	if err != nil {
		return nil, err
	}
	out := gen.Search200JSONResponse{Items: hits, Total: page.Total, Degraded: page.Degraded, Facets: facetBodies(page)}
	if params.WaitFor != nil {
		fresh := waited.in(page)
		out.Fresh = &fresh
	}
	if len(page.Corrections) > 0 && params.Q != nil {
		if text, ok := parsed.Correct(*params.Q, page.Corrections); ok {
			out.DidYouMean = &text
		}
	}
	if page.NextCursor != "" {
		out.NextCursor, err = s.next(ctx, position{Inner: page.NextCursor}, scope...)
	}
	return out, err
}

// movedAway are items that the index may still have in these collections although they are there no more. For a search of the index as it is now
// that ends soon after the index was given the move; the pages of a moment before go on for longer.
func (s *server) movedAway(ctx context.Context, collections []uuid.UUID, current bool) ([]uuid.UUID, error) {
	shown := time.Unix(0, 0) // before any move
	if current {
		shown = s.clock().Add(-indexShows)
	}
	items, err := s.queries.ListMovedAway(ctx, collections, shown, search.MaxNotItems+1)
	if err != nil {
		return nil, fmt.Errorf("list what was moved away: %w", err)
	}
	return items, nil
}

// visible are the collections that the user may see and the role in each; only collection when it is given.
func (s *server) visible(ctx context.Context, user uuid.UUID, collection *uuid.UUID) (map[uuid.UUID]gen.Role, error) {
	rows, err := s.queries.ListCollectionRoles(ctx, user, collection)
	if err != nil {
		return nil, fmt.Errorf("list the caller's collections: %w", err)
	}
	roles := make(map[uuid.UUID]gen.Role, len(rows))
	for _, row := range rows {
		roles[row.CollectionID] = gen.Role(row.Role)
	}
	return roles, nil
}

// inCollections are the roles in these collections only.
func inCollections(roles map[uuid.UUID]gen.Role, collections []uuid.UUID) map[uuid.UUID]gen.Role {
	out := make(map[uuid.UUID]gen.Role, len(collections))
	for _, id := range collections {
		out[id] = roles[id]
	}
	return out
}

// truth is what the database says about an item that was found.
type truth struct {
	collection uuid.UUID
	role       gen.Role
	state      gen.SearchState
}

// truths leaves out what was deleted, or is no longer in one of the collections, since it was indexed.
func (s *server) truths(ctx context.Context, ids []uuid.UUID, roles map[uuid.UUID]gen.Role) (map[uuid.UUID]truth, error) {
	out := make(map[uuid.UUID]truth, len(ids))
	if len(ids) == 0 {
		return out, nil
	}
	states, err := s.queries.ListItemStates(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("read the items that were found: %w", err)
	}
	for _, state := range states {
		if role, ok := roles[state.CollectionID]; ok {
			out[state.ID] = truth{collection: state.CollectionID, role: role, state: searchState(state.Version, state.IndexedVersion, state.FailedVersion)}
		}
	}
	return out, nil
}

// hitBodies are the hits that the database confirms.
func (s *server) hitBodies(ctx context.Context, hits []search.Hit, roles map[uuid.UUID]gen.Role) ([]gen.SearchHit, error) {
	ids := make([]uuid.UUID, len(hits))
	for i, hit := range hits {
		ids[i] = hit.ItemID
	}
	out := make([]gen.SearchHit, 0, len(hits))
	truths, err := s.truths(ctx, ids, roles)
	if err != nil {
		return nil, err
	}
	for _, hit := range hits {
		found, ok := truths[hit.ItemID]
		if !ok {
			continue
		}
		if hit.Tags == nil {
			hit.Tags = []string{}
		}
		out = append(out, gen.SearchHit{
			ID: hit.ItemID, CollectionID: found.collection, Title: hit.Title, Snippet: hit.Snippet, ExtractSnippet: unlessEmpty(hit.ExtractSnippet), Tags: hit.Tags, Score: hit.Score,
			Version: hit.Version, SearchState: found.state, MyRole: found.role, UpdatedAt: hit.UpdatedAt.UTC(),
		})
	}
	return out, nil
}

func wantedFacets(names *[]string) map[string]bool {
	wanted := make(map[string]bool, 2)
	if names != nil {
		for _, name := range *names {
			wanted[name] = true
		}
	}
	return wanted
}

// facetBodies is nil when no facet was asked for.
func facetBodies(page search.Page) *gen.SearchFacets {
	if page.Tags == nil && page.Collections == nil {
		return nil
	}
	var out gen.SearchFacets
	if page.Tags != nil {
		tags := make([]gen.TagFacet, len(page.Tags))
		for i, t := range page.Tags {
			tags[i] = gen.TagFacet{Tag: t.Tag, Count: t.Items}
		}
		out.Tags = &tags
	}
	if page.Collections != nil {
		collections := make([]gen.CollectionFacet, len(page.Collections))
		for i, c := range page.Collections {
			collections[i] = gen.CollectionFacet{CollectionID: c.CollectionID, Count: c.Items}
		}
		out.Collections = &collections
	}
	return &out
}

func unlessEmpty(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
