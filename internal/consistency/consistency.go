// Package consistency compares PostgreSQL, the truth, with what was made from it: the search index and the audit trail. It reads all of them in key
// order and page by page, so it needs the same memory for any amount, and it can run while writes go on: what differs is looked at again, until it is
// right or has been wrong for some time.
package consistency

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// Options say how to check; a zero value means the default.
type Options struct {
	// Deep compares the contents of documents that have the right version too.
	Deep bool
	// Repair mends the index. The audit trail can't be mended: it is a record.
	Repair bool
	// Limit is how many examples of each kind are kept; default 10.
	Limit int
	// Settle is how long something must have been wrong, and unchanged, to be reported; default 10 s.
	Settle time.Duration
	// Patience is how long changes that are still on their way are waited for; default 2 min. What is on its way after that is undecided.
	Patience time.Duration
	// Progress is told now and then how far the check is.
	Progress func(phase string, done int64)
}

func (o Options) withDefaults() Options {
	o.Limit = cmp.Or(o.Limit, 10)
	o.Settle = cmp.Or(o.Settle, 10*time.Second)
	o.Patience = cmp.Or(o.Patience, 2*time.Minute)
	if o.Progress == nil {
		o.Progress = func(string, int64) {}
	}
	return o
}

// Checker compares one database with one index.
type Checker struct {
	queries *db.Queries
	es      elastictransport.Interface
	alias   string
	items   *indexing.Indexer
	bulk    *elastic.BulkWriter
}

// New makes a checker. Without Elasticsearch, where PostgreSQL itself is searched, only Audit can be asked.
func New(pool *pgxpool.Pool, es elastictransport.Interface, alias string) *Checker {
	c := &Checker{queries: db.New(pool), es: es, alias: alias}
	if es != nil {
		c.items, c.bulk = indexing.New(pool, es, alias), elastic.NewBulkWriter(es, alias, 0)
	}
	return c
}

// How much is looked at in one step.
const (
	pageSize = 1000
	// maxSuspects is how many keys are in memory before they are looked at again.
	maxSuspects = 20_000
)

var errNoIndex = errors.New("there is no Elasticsearch to check")

// stream hands out what comes in pages, in ascending order.
type stream[T any] struct {
	page  func(ctx context.Context) ([]T, error)
	ready []T
	ended bool
}

// peek returns the next value without taking it; nil at the end.
func (s *stream[T]) peek(ctx context.Context) (*T, error) {
	if len(s.ready) == 0 && !s.ended {
		var err error
		if s.ready, err = s.page(ctx); err != nil {
			return nil, err
		}
		s.ended = len(s.ready) == 0
	}
	if s.ended {
		return nil, nil
	}
	return &s.ready[0], nil
}

func (s *stream[T]) skip() { s.ready = s.ready[1:] }
