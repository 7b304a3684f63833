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
	open      func(ctx context.Context) bool

	mu        sync.Mutex
	openUntil time.Time
}

var _ Searcher = (*Fallback)(nil)

// NewFallback combines two searchers.
func NewFallback(primary, secondary Searcher) *Fallback {
	return &Fallback{primary: primary, secondary: secondary, now: time.Now, open: func(context.Context) bool { return true }}
}

// Behind makes the secondary answer while the gate is shut.
func (f *Fallback) Behind(gate *Gate) *Fallback {
	f.open = gate.Open
	return f
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
	if len(q.NotItems) > MaxNotItems {
		if q.Cursor != "" {
			return Page{}, ErrCursor // the next search will be answered
		}
		return f.degraded(ctx, q)
	}
	var page Page
	err := f.primarily(ctx, func(ctx context.Context) (err error) {
		page, err = f.primary.Search(ctx, q)
		return err
	})
	if q.Cursor == "" && degrades(ctx, err) { // a page in the middle has the primary's order
		return f.degraded(ctx, q)
	}
	return page, err
}

// Suggest implements Searcher.
func (f *Fallback) Suggest(ctx context.Context, p Prefix) (Suggestions, error) {
	var out Suggestions
	err := f.primarily(ctx, func(ctx context.Context) (err error) {
		out, err = f.primary.Suggest(ctx, p)
		return err
	})
	if degrades(ctx, err) {
		out, err = f.secondary.Suggest(ctx, p)
		out.Degraded = err == nil
	}
	return out, err
}

// Fresh implements Searcher.
func (f *Fallback) Fresh(ctx context.Context, writes []Write) (Freshness, error) {
	var out Freshness
	err := f.primarily(ctx, func(ctx context.Context) (err error) {
		out, err = f.primary.Fresh(ctx, writes)
		return err
	})
	if degrades(ctx, err) {
		out, err = f.secondary.Fresh(ctx, writes)
		out.Degraded = err == nil
	}
	return out, err
}

// degrades reports whether the secondary should answer after this error of the primary.
func degrades(ctx context.Context, err error) bool {
	return errors.Is(err, ErrUnavailable) && ctx.Err() == nil
}

// primarily asks the primary, if it may be asked now, and keeps account of how it is.
func (f *Fallback) primarily(ctx context.Context, ask func(ctx context.Context) error) error {
	if !f.open(ctx) {
		return fmt.Errorf("%w: the index is being filled", ErrUnavailable)
	}
	if !f.tryPrimary() {
		return fmt.Errorf("%w: Elasticsearch failed a moment ago", ErrUnavailable)
	}
	limited, cancel := context.WithTimeout(ctx, primaryTimeout)
	defer cancel()
	err := ask(limited)
	f.mu.Lock()
	defer f.mu.Unlock()
	if errors.Is(err, ErrUnavailable) && ctx.Err() == nil {
		f.openUntil = f.now().Add(coolDown)
	} else if err == nil {
		f.openUntil = time.Time{}
	}
	return err
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
