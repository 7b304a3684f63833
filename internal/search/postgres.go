package search

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

const enginePostgres = "pg"

// Postgres searches the items' rows by PostgreSQL's full text search.
type Postgres struct {
	pool *pgxpool.Pool
}

var _ Searcher = (*Postgres)(nil)

// NewPostgres makes the searcher.
func NewPostgres(pool *pgxpool.Pool) *Postgres { return &Postgres{pool: pool} }

// Search implements Searcher.
func (s *Postgres) Search(ctx context.Context, q Query) (Page, error) {
	q = q.normal()
	if q.nobody() {
		return q.empty(), nil
	}
	after, resumed, err := q.resume(enginePostgres)
	if err != nil {
		return Page{}, err
	}
	page, filters := q.empty(), newPGFilters(q)
	err = postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error { // page and total from one connection
		queries := db.New(tx)
		text, ok, err := tsquery(ctx, queries, q)
		if err != nil || !ok {
			return err
		}
		if q.ranked() {
			page.Hits, err = ranked(ctx, queries, q, text, filters, after, resumed)
		} else {
			page.Hits, err = newest(ctx, queries, q, text, filters, after, resumed)
		}
		if err != nil {
			return err
		}
		page.Total, err = queries.CountSearchMatches(ctx, db.CountSearchMatchesParams{
			CollectionIds: q.CollectionIDs, Query: text, Tags: filters.tags, NotTags: filters.notTags, Authors: filters.authors,
			NotAuthors: filters.notAuthors, CreatedAfter: filters.after, CreatedBefore: filters.before, AtMost: MaxTotal,
		})
		if err != nil {
			return err
		}
		return countFacets(ctx, queries, q, text, filters, &page)
	})
	if err != nil {
		return Page{}, searchError(err)
	}
	if len(page.Hits) > q.Limit { // one more was asked for, to know whether there is a next page
		page.Hits = page.Hits[:q.Limit]
		last := page.Hits[q.Limit-1]
		p := position{Engine: enginePostgres, ID: last.ItemID}
		if q.ranked() {
			p.Ranked, p.Score = true, last.Score
		}
		if page.NextCursor, err = p.encode(); err != nil {
			return Page{}, err
		}
	}
	return page, nil
}

func searchError(err error) error {
	var pgErr *pgconn.PgError
	// Data exception: the text holds what no text column can. Internal error: it is nested too deeply for the parser of queries.
	if errors.As(err, &pgErr) && (pgErr.Code[:2] == "22" || pgErr.Code == "XX000") {
		return fmt.Errorf("%w: %s", ErrQuery, pgErr.Message)
	}
	return fmt.Errorf("%w: search PostgreSQL: %w", ErrUnavailable, err)
}

func ranked(ctx context.Context, queries *db.Queries, q Query, text string, filters pgFilters, after position, resumed bool) ([]Hit, error) {
	rows, err := queries.SearchItemsByRank(ctx, db.SearchItemsByRankParams{
		Query: text, CollectionIds: q.CollectionIDs, Tags: filters.tags, NotTags: filters.notTags, Authors: filters.authors,
		NotAuthors: filters.notAuthors, CreatedAfter: filters.after, CreatedBefore: filters.before,
		HasAfter: resumed, AfterScore: after.Score, AfterID: after.ID, PageSize: int32(q.Limit + 1), //nolint:gosec // at most MaxLimit
	})
	if err != nil {
		return nil, err
	}
	hits := make([]Hit, len(rows))
	for i, r := range rows {
		hits[i] = Hit{
			ItemID: r.ID, CollectionID: r.CollectionID, Title: r.Title, Snippet: safeSnippet(r.Snippet), Tags: r.Tags,
			Score: r.Score, UpdatedAt: r.UpdatedAt, Version: r.Version,
		}
	}
	return hits, nil
}

func newest(ctx context.Context, queries *db.Queries, q Query, text string, filters pgFilters, after position, resumed bool) ([]Hit, error) {
	afterID := uuid.Nil
	if resumed {
		afterID = after.ID
	}
	rows, err := queries.SearchItemsNewest(ctx, db.SearchItemsNewestParams{
		CollectionIds: q.CollectionIDs, Query: text, Tags: filters.tags, NotTags: filters.notTags, Authors: filters.authors,
		NotAuthors: filters.notAuthors, CreatedAfter: filters.after, CreatedBefore: filters.before,
		HasAfter: resumed, AfterID: afterID, PageSize: int32(q.Limit + 1), //nolint:gosec // at most MaxLimit
	})
	if err != nil {
		return nil, err
	}
	hits := make([]Hit, len(rows))
	for i, r := range rows {
		hits[i] = Hit{
			ItemID: r.ID, CollectionID: r.CollectionID, Title: r.Title, Snippet: safeSnippet(r.Snippet), Tags: r.Tags,
			UpdatedAt: r.UpdatedAt, Version: r.Version,
		}
	}
	return hits, nil
}
