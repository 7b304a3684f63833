// Package enrich brings what the pages at items' sources say into the items. Which pages are wanted is written with the items themselves, in the same
// transaction (see the table item_extracts). A page is one job's: of the one that asked for it last, or of the platform's where an item's change did.
// What the page says is stored together with a new version of its item, unless it says what it said before, and with the job's progress.
package enrich

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/atlas-platform/atlas/internal/extract"
	"github.com/atlas-platform/atlas/internal/fetch"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

const (
	// claimBatch is how many pages are claimed at a time, and claimTime how long they stay so where no attempt, and no end, of their job frees them.
	claimBatch = 48
	claimTime  = 30 * time.Minute
	// atOnce is how many hosts are asked at the same time.
	atOnce = 8
	// wantBatch is how many items are asked for, adopted, dropped or released at a time.
	wantBatch = 1000
	// releaseTime is how long giving claims back may take when the work is cut short.
	releaseTime = 5 * time.Second
)

// Fetcher gets pages; see fetch.Fetcher.
type Fetcher interface {
	Fetch(ctx context.Context, r fetch.Request) (*fetch.Page, error)
}

// Enricher fetches the pages that are wanted.
type Enricher struct {
	logger  *slog.Logger
	pool    *pgxpool.Pool
	queries *db.Queries
	fetcher Fetcher
	extract func(body []byte, contentType, at string) extract.Result // extract.Page but in tests
	// reading is held while a page is read, of all jobs' in this process: that takes a processor, and for a page that means harm twenty times its size.
	reading chan struct{}
}

// New makes an enricher.
func New(logger *slog.Logger, pool *pgxpool.Pool, fetcher Fetcher) *Enricher {
	return &Enricher{logger: logger, pool: pool, queries: db.New(pool), fetcher: fetcher, extract: extract.Page, reading: make(chan struct{}, 1)}
}

// Outcome is what became of a page.
type Outcome struct {
	ItemID uuid.UUID
	// Changed tells that the item has a new version, Titled that it got its title with it.
	Changed, Titled bool
	// Code and Message say why the page could not be had; empty when it could. Again tells that it will be tried again by itself.
	Code, Message string
	Again         bool
}

// Wanted says what Want asks for.
type Wanted struct {
	Collection uuid.UUID
	// Items narrows it; none means all of the collection.
	Items []uuid.UUID
	// Refresh asks for pages again that were fetched before.
	Refresh bool
	// Job fetches them, whose ever they were before; By is who asks, nil for the platform.
	Job uuid.UUID
	By  *uuid.UUID
	// After is where to begin: behind this item.
	After uuid.UUID
}

// Want asks for the pages of a batch of items. It returns how many these are, the item that the next batch begins behind, and false when there is none.
func (e *Enricher) Want(ctx context.Context, w Wanted) (asked int64, after uuid.UUID, more bool, err error) {
	if w.Items == nil {
		w.Items = []uuid.UUID{}
	}
	rows, err := e.queries.WantExtracts(ctx, db.WantExtractsParams{
		CollectionID: w.Collection, Ids: w.Items, Refresh: w.Refresh, JobID: w.Job, WantedBy: w.By, AfterID: w.After, BatchSize: wantBatch,
	})
	if err != nil {
		return 0, w.After, false, fmt.Errorf("ask for the pages of items: %w", err)
	}
	if len(rows) == 0 {
		return 0, w.After, false, nil
	}
	for _, row := range rows {
		if row.Wanted {
			asked++
		}
	}
	return asked, rows[len(rows)-1].ID, len(rows) == wantBatch, nil
}

// Resume makes due again what an attempt at the job left unfinished, and wants again what went with its cancel. It is an attempt's first step.
func (e *Enricher) Resume(ctx context.Context, collection, job uuid.UUID) error {
	if err := e.queries.ResumeExtracts(ctx, collection, job); err != nil {
		return fmt.Errorf("take over the pages of the attempt before: %w", err)
	}
	return nil
}

// Adopt gives the job a collection's pages that are due and no job's.
func (e *Enricher) Adopt(ctx context.Context, collection, job uuid.UUID) error {
	return adopt(ctx, e.queries, collection, job)
}

func adopt(ctx context.Context, q *db.Queries, collection, job uuid.UUID) error {
	return batches(func() (int64, error) { return q.AdoptExtracts(ctx, job, collection, wantBatch) }, "adopt pages")
}

// batches calls one until a batch is not full.
func batches(one func() (int64, error), what string) error {
	for {
		if n, err := one(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		} else if n < wantBatch {
			return nil
		}
	}
}

// Due is how many pages of a job are still to be fetched.
func (e *Enricher) Due(ctx context.Context, job uuid.UUID) (int64, error) {
	n, err := e.queries.CountDueExtracts(ctx, job)
	if err != nil {
		return 0, fmt.Errorf("count the pages that are wanted: %w", err)
	}
	return n, nil
}

// Record takes note of an outcome in the transaction that stores it.
type Record func(ctx context.Context, q *db.Queries, out Outcome) error

// Batch fetches a batch of a job's pages that are due, several hosts at a time, and calls record with each outcome, one at a time; an error of record
// ends the work, and that page is not stored. Owner is the job's lease: without it nothing is due. It returns false when nothing was. What it can't
// finish is due again.
func (e *Enricher) Batch(ctx context.Context, job uuid.UUID, owner string, record Record) (some bool, err error) {
	claims, err := e.queries.ClaimExtracts(ctx, db.ClaimExtractsParams{JobID: job, LeaseOwner: owner, BatchSize: claimBatch, ClaimSeconds: claimTime.Seconds()})
	if err != nil {
		return false, fmt.Errorf("claim pages: %w", err)
	}
	if len(claims) == 0 {
		return false, nil
	}
	var mu sync.Mutex
	open := make(map[uuid.UUID]time.Time, len(claims))
	for _, claim := range claims {
		open[claim.ItemID] = claim.ClaimedUntil
	}
	defer func() { e.unclaim(ctx, open) }()
	hosts, gone := byHost(claims)
	if len(gone) > 0 {
		if err := e.queries.DropExtractWants(ctx, gone); err != nil {
			return false, fmt.Errorf("drop the pages of items that are gone: %w", err)
		}
	}
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, pages := range hosts {
		group.Go(func() error {
			for i := range pages {
				result, err := e.read(working, &pages[i])
				if working.Err() != nil {
					return working.Err()
				}
				mu.Lock()
				stored, err := e.store(working, &pages[i], result, err, record)
				if stored {
					delete(open, pages[i].ItemID)
				}
				mu.Unlock()
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return true, group.Wait()
}

// byHost puts together what one host is asked for, and apart what nobody wants any more.
func byHost(claims []db.ClaimExtractsRow) (hosts [][]db.ClaimExtractsRow, gone []uuid.UUID) {
	places := map[string]int{}
	for _, claim := range claims {
		if !claim.Live {
			gone = append(gone, claim.ItemID)
			continue
		}
		host := ""
		if u, err := url.Parse(claim.SourceUrl); err == nil {
			host = u.Host
		}
		place, known := places[host]
		if !known {
			place = len(hosts)
			places[host] = place
			hosts = append(hosts, nil)
		}
		hosts[place] = append(hosts[place], claim)
	}
	return hosts, gone
}

// store stores what came of a page; false when it is not wanted any more. An error is not about the page: the work can't go on.
func (e *Enricher) store(ctx context.Context, claim *db.ClaimExtractsRow, result fetched, err error, record Record) (bool, error) {
	var failure *fetch.Error
	switch {
	case errors.As(err, &failure):
		return e.fail(ctx, claim, failure, record)
	case err != nil:
		return false, err
	}
	return e.save(ctx, claim, result, record)
}

// fetched is a page and what it says; says is nil when the server says that the page is the one that it was.
type fetched struct {
	page *fetch.Page
	says *extract.Result
}

// read fetches a page and reads it. A page that is too much for the reader is that page's failure.
func (e *Enricher) read(ctx context.Context, claim *db.ClaimExtractsRow) (out fetched, err error) {
	defer func() {
		if p := recover(); p != nil {
			e.logger.ErrorContext(ctx, "reading a page panicked", "panic", p, "stack", string(debug.Stack()), "item_id", claim.ItemID)
			err = &fetch.Error{Code: "unreadable", Message: "the page could not be read"}
		}
	}()
	out.page, err = e.fetcher.Fetch(ctx, fetch.Request{URL: claim.SourceUrl, ETag: claim.Etag, LastModified: claim.LastModified})
	if err != nil || out.page.NotModified {
		return out, err
	}
	select {
	case e.reading <- struct{}{}:
		defer func() { <-e.reading }()
	case <-ctx.Done():
		return out, ctx.Err()
	}
	says := e.extract(out.page.Body, out.page.ContentType, out.page.URL)
	out.says, out.page.Body = &says, nil
	return out, nil
}

// unclaim makes what was not finished due again at once. When that fails it is due when the claim ends.
func (e *Enricher) unclaim(ctx context.Context, open map[uuid.UUID]time.Time) {
	if len(open) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	ids, claims := make([]uuid.UUID, 0, len(open)), make([]time.Time, 0, len(open))
	for id, until := range open {
		ids, claims = append(ids, id), append(claims, until)
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	for i, id := range ids {
		claims[i] = open[id]
	}
	if err := e.queries.UnclaimExtracts(ctx, ids, claims); err != nil {
		e.logger.WarnContext(ctx, "pages could not be given back", "error", err, "pages", len(ids))
	}
}
