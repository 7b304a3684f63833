package search

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

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
		if page.Hits, err = find(ctx, queries, q, text, filters, after, resumed); err != nil {
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
		if page.NextCursor, err = q.positionOf(enginePostgres, last).encode(); err != nil {
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

func find(ctx context.Context, queries *db.Queries, q Query, text string, f pgFilters, after position, resumed bool) ([]Hit, error) {
	size := int32(q.Limit + 1) //nolint:gosec // at most MaxLimit
	// The statements but the first differ in their order only, and so the generated types are the same but for their names.
	newest := db.SearchItemsNewestParams{
		CollectionIds: q.CollectionIDs, Query: text, Tags: f.tags, NotTags: f.notTags, Authors: f.authors, NotAuthors: f.notAuthors,
		CreatedAfter: f.after, CreatedBefore: f.before, HasAfter: resumed, AfterID: after.ID, PageSize: size,
	}
	switch q.Sort {
	case ByRelevance:
		rows, err := queries.SearchItemsByRank(ctx, db.SearchItemsByRankParams{
			CollectionIds: q.CollectionIDs, Query: text, Tags: f.tags, NotTags: f.notTags, Authors: f.authors, NotAuthors: f.notAuthors,
			CreatedAfter: f.after, CreatedBefore: f.before, HasAfter: resumed, AfterScore: after.Score, AfterID: after.ID, PageSize: size,
		})
		return hits(rows, func(r db.SearchItemsByRankRow) Hit {
			hit := hitOf(db.SearchItemsNewestRow{
				ID: r.ID, CollectionID: r.CollectionID, Title: r.Title, Version: r.Version, UpdatedAt: r.UpdatedAt, Snippet: r.Snippet, Tags: r.Tags,
				ExtractSnippet: r.ExtractSnippet,
			})
			hit.Score = r.Score
			return hit
		}), err
	case Oldest:
		rows, err := queries.SearchItemsOldest(ctx, db.SearchItemsOldestParams(newest))
		return hits(rows, func(r db.SearchItemsOldestRow) Hit { return hitOf(db.SearchItemsNewestRow(r)) }), err
	case LastUpdated:
		rows, err := queries.SearchItemsUpdated(ctx, db.SearchItemsUpdatedParams{
			CollectionIds: q.CollectionIDs, Query: text, Tags: f.tags, NotTags: f.notTags, Authors: f.authors, NotAuthors: f.notAuthors,
			CreatedAfter: f.after, CreatedBefore: f.before, HasAfter: resumed, AfterTime: time.UnixMilli(after.Updated), AfterID: after.ID,
			PageSize: size,
		})
		return hits(rows, func(r db.SearchItemsUpdatedRow) Hit { return hitOf(db.SearchItemsNewestRow(r)) }), err
	default:
		rows, err := queries.SearchItemsNewest(ctx, newest)
		return hits(rows, hitOf), err
	}
}

func hits[R any](rows []R, hit func(R) Hit) []Hit {
	out := make([]Hit, len(rows))
	for i, row := range rows {
		out[i] = hit(row)
	}
	return out
}

func hitOf(r db.SearchItemsNewestRow) Hit {
	return Hit{
		ItemID: r.ID, CollectionID: r.CollectionID, Title: r.Title, Snippet: safeSnippet(r.Snippet), ExtractSnippet: foundIn(r.ExtractSnippet),
		Tags: r.Tags, UpdatedAt: r.UpdatedAt, Version: r.Version,
	}
}

// foundIn is safeSnippet of a text in which something was found; without a mark it is only how the text begins.
func foundIn(snippet string) string {
	if !strings.Contains(snippet, markStart) {
		return ""
	}
	return safeSnippet(snippet)
}
