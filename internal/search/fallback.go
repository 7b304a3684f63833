package search

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	primaryTimeout = 3 * time.Second
	coolDown       = 5 * time.Second
)

// Fallback answers from the primary searcher, and from the secondary while the primary is away. After a failure the primary is left alone for a
// few seconds, then one query tries it.
type Fallback struct {
	primary   Searcher
	secondary Searcher
	now       func() time.Time

	mu        sync.Mutex
	openUntil time.Time
}

var _ Searcher = (*Fallback)(nil)

// NewFallback combines two searchers.
func NewFallback(primary, secondary Searcher) *Fallback {
	return &Fallback{primary: primary, secondary: secondary, now: time.Now}
}

// Search implements Searcher. The pages of one search come from one searcher: the order of the two differs.
func (f *Fallback) Search(ctx context.Context, q Query) (Page, error) {
	if q.Cursor != "" {
		p, err := decodePosition(q.Cursor)
		if err != nil {
			return Page{}, err
		}
		if p.Engine == enginePostgres {
			return f.degraded(ctx, q)
		}
	}
	err := fmt.Errorf("%w: Elasticsearch failed a moment ago", ErrUnavailable)
	if f.tryPrimary() {
		var page Page
		if page, err = f.fromPrimary(ctx, q); err == nil {
			return page, nil
		}
	}
	switch {
	case !errors.Is(err, ErrUnavailable), ctx.Err() != nil:
		return Page{}, err
	case q.Cursor != "":
		return Page{}, err // a page in the middle of the primary's order
	}
	return f.degraded(ctx, q)
}

func (f *Fallback) fromPrimary(ctx context.Context, q Query) (Page, error) {
	limited, cancel := context.WithTimeout(ctx, primaryTimeout)
	defer cancel()
	page, err := f.primary.Search(limited, q)
	f.mu.Lock()
	defer f.mu.Unlock()
	if errors.Is(err, ErrUnavailable) && ctx.Err() == nil {
		f.openUntil = f.now().Add(coolDown)
	} else if err == nil {
		f.openUntil = time.Time{}
	}
	return page, err
}

// tryPrimary lets every query through while the primary is well, and one per cool-down while it is not.
func (f *Fallback) tryPrimary() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	switch {
	case f.openUntil.IsZero():
		return true
	case now.Before(f.openUntil):
		return false
	}
	f.openUntil = now.Add(coolDown) // this query is the probe
	return true
}

func (f *Fallback) degraded(ctx context.Context, q Query) (Page, error) {
	page, err := f.secondary.Search(ctx, q)
	page.Degraded = err == nil
	return page, err
}
