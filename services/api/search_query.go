package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/account"
	"github.com/atlas-platform/atlas/internal/search"
	"github.com/atlas-platform/atlas/internal/search/query"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// parseQuery reads what was typed and adds the tags that were given as parameters.
func parseQuery(text *string, tags []string) (query.Query, error) {
	var q query.Query
	if text != nil {
		var err error
		if q, err = query.Parse(*text); err != nil {
			return q, badRequest("q "+err.Error(), parameter("q", err.Error()))
		}
	}
	for _, tag := range tags {
		if !slices.Contains(q.Tags, tag) {
			q.Tags = append(q.Tags, tag)
		}
	}
	return q, nil
}

// resolve finds what the query's collections and authors stand for, within what the caller may see: roles are all of the caller's collections.
// A name of anything else stands for nothing, exactly as a name that nobody ever gave.
func (s *server) resolve(ctx context.Context, match query.Query, roles map[uuid.UUID]gen.Role) (search.Query, error) {
	out := search.Query{Match: match}
	for id := range roles {
		out.CollectionIDs = append(out.CollectionIDs, id)
	}
	if len(roles) == 0 {
		return out, nil
	}
	collections, err := s.resolveCollections(ctx, slices.Concat(match.Collections, match.NotCollections), out.CollectionIDs)
	if err != nil {
		return out, err
	}
	authors, err := s.resolveAuthors(ctx, slices.Concat(match.Authors, match.NotAuthors), out.CollectionIDs)
	if err != nil {
		return out, err
	}
	with, without := pick(collections, match.Collections), pick(collections, match.NotCollections)
	out.CollectionIDs = slices.DeleteFunc(out.CollectionIDs, func(id uuid.UUID) bool {
		return (with != nil && !slices.Contains(with, id)) || slices.Contains(without, id)
	})
	out.Authors, out.NotAuthors = pick(authors, match.Authors), pick(authors, match.NotAuthors)
	return out, nil
}

// pick returns what the names stand for; nil when there are no names.
func pick(resolved map[string][]uuid.UUID, names []string) []uuid.UUID {
	if len(names) == 0 {
		return nil
	}
	ids := []uuid.UUID{}
	for _, name := range names {
		ids = append(ids, resolved[name]...)
	}
	return ids
}

func (s *server) resolveCollections(ctx context.Context, names []string, visible []uuid.UUID) (map[string][]uuid.UUID, error) {
	resolved := make(map[string][]uuid.UUID, len(names))
	if len(names) == 0 {
		return resolved, nil
	}
	for _, name := range names {
		if id, ok := writtenUUID(name); ok && slices.Contains(visible, id) {
			resolved[name] = append(resolved[name], id)
		}
	}
	rows, err := s.queries.ResolveSearchCollections(ctx, names, visible)
	if err != nil {
		return nil, fmt.Errorf("resolve the query's collections: %w", err)
	}
	for _, row := range rows {
		resolved[row.Wanted] = append(resolved[row.Wanted], row.ID)
	}
	return resolved, nil
}

func (s *server) resolveAuthors(ctx context.Context, names []string, visible []uuid.UUID) (map[string][]uuid.UUID, error) {
	resolved := make(map[string][]uuid.UUID, len(names))
	spelled := make(map[string][]string) // how the query writes an e-mail
	var emails []string
	for _, name := range names {
		if strings.EqualFold(name, "me") {
			resolved[name] = []uuid.UUID{caller(ctx).id()}
		} else if id, ok := writtenUUID(name); ok {
			resolved[name] = []uuid.UUID{id} // says nothing: only items that the caller may see are compared with it
		} else if email := account.NormalizeEmail(name); account.EmailOK(email) {
			spelled[email] = append(spelled[email], name)
			emails = append(emails, email)
		}
	}
	if len(emails) == 0 {
		return resolved, nil
	}
	rows, err := s.queries.ResolveSearchAuthors(ctx, emails, visible)
	if err != nil {
		return nil, fmt.Errorf("resolve the query's authors: %w", err)
	}
	for _, row := range rows {
		for _, name := range spelled[row.Wanted] {
			resolved[name] = []uuid.UUID{row.ID}
		}
	}
	return resolved, nil
}

// writtenUUID reads a UUID in its usual form only.
func writtenUUID(text string) (uuid.UUID, bool) {
	if len(text) != 36 {
		return uuid.Nil, false
	}
	id, err := uuid.Parse(text)
	return id, err == nil
}

func searchProblem(err error) error {
	switch {
	case errors.Is(err, search.ErrCursor):
		const message = "is no longer valid for this search: start again with the first page"
		return badRequest("cursor "+message, parameter("cursor", message))
	case errors.Is(err, search.ErrQuery):
		return badRequest("q can't be searched for", parameter("q", "can't be searched for"))
	case errors.Is(err, search.ErrUnavailable):
		return errors.Join(unavailable("search is not available"), err)
	default:
		return fmt.Errorf("search: %w", err)
	}
}
