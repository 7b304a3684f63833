package enrich

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/extract"
	"github.com/atlas-platform/atlas/internal/fetch"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/telemetry"
)

// The fields of an item that a page changes, as its events and revisions name them.
const (
	fieldTitle   = "title"
	fieldExtract = "extract"
)

const (
	// maxTries is how often a page is asked for that can't be had now; retryFirst is the time to the second one, and grows sixfold with each.
	maxTries    = 4
	retryFirst  = 5 * time.Minute
	retryGrowth = 6
)

// locked is an item and its extract that nobody else changes until the transaction ends.
type locked struct {
	item    db.LockItemForExtractRow
	extract db.LockExtractRow
}

// lock locks an item, then its extract. ok is false when the page that was fetched is not wanted any more: the item is gone or has another source,
// or the claim is somebody else's.
func lock(ctx context.Context, q *db.Queries, claim *db.ClaimExtractsRow) (l locked, ok bool, err error) {
	l.item, err = q.LockItemForExtract(ctx, claim.ItemID)
	if errors.Is(err, pgx.ErrNoRows) || (err == nil && (l.item.SourceUrl == nil || *l.item.SourceUrl != claim.SourceUrl)) {
		return l, false, nil
	}
	if err != nil {
		return l, false, fmt.Errorf("lock the item: %w", err)
	}
	l.extract, err = q.LockExtract(ctx, claim.ItemID, claim.ClaimedUntil)
	if errors.Is(err, pgx.ErrNoRows) {
		return l, false, nil
	}
	if err != nil {
		return l, false, fmt.Errorf("lock the item's extract: %w", err)
	}
	return l, true, nil
}

// save stores a page. When it says something new, or the item has no title and the page has one, the item gets a version, a revision and an event.
func (e *Enricher) save(ctx context.Context, claim *db.ClaimExtractsRow, f fetched, record Record) (stored bool, err error) {
	err = postgres.InTx(ctx, e.pool, func(tx pgx.Tx) error {
		q := e.queries.WithTx(tx)
		l, ok, err := lock(ctx, q, claim)
		if err != nil || !ok {
			return err
		}
		stored = true
		out := Outcome{ItemID: claim.ItemID}
		at := time.Now().UTC().Truncate(time.Microsecond)
		title, changed := l.item.Title, []string(nil)
		if f.says != nil && title == "" && f.says.Title != "" {
			title, changed, out.Titled = f.says.Title, append(changed, fieldTitle), true
		}
		if f.says != nil && !bytes.Equal(hash(f.says), l.extract.ContentHash) {
			changed = append(changed, fieldExtract)
		}
		if len(changed) == 0 {
			if err := q.TouchExtract(ctx, db.TouchExtractParams{
				SourceUrl: &claim.SourceUrl, FetchedAt: &at, Etag: orNil(f.page.ETag), LastModified: orNil(f.page.LastModified), ItemID: claim.ItemID,
			}); err != nil {
				return fmt.Errorf("store that the page is what it was: %w", err)
			}
			return record(ctx, q, out)
		}
		out.Changed = true
		if err := q.SaveExtract(ctx, saved(claim, f, at)); err != nil {
			return fmt.Errorf("store the page: %w", err)
		}
		if err := bump(ctx, q, l, title, changed, at); err != nil {
			return err
		}
		return record(ctx, q, out)
	})
	if err != nil {
		return false, fmt.Errorf("save a page: %w", err)
	}
	return stored, nil
}

func saved(claim *db.ClaimExtractsRow, f fetched, at time.Time) db.SaveExtractParams {
	words := int32(min(f.says.Words, 1<<30)) //nolint:gosec // in bounds
	return db.SaveExtractParams{
		SourceUrl: &claim.SourceUrl, FetchedAt: &at, Etag: orNil(f.page.ETag), LastModified: orNil(f.page.LastModified), CanonicalUrl: orNil(f.says.CanonicalURL),
		SiteName: orNil(f.says.SiteName), Title: orNil(f.says.Title), Language: orNil(f.says.Language), WordCount: &words, Excerpt: orNil(f.says.Excerpt),
		Text: f.says.Text, ContentHash: hash(f.says), ItemID: claim.ItemID,
	}
}

// bump makes the item's new version, with its revision, and announces it.
func bump(ctx context.Context, q *db.Queries, l locked, title string, changed []string, at time.Time) error {
	before := map[string]string{}
	if title != l.item.Title {
		before[fieldTitle] = l.item.Title
	}
	raw, err := json.Marshal(before)
	if err != nil {
		return fmt.Errorf("encode what a change replaced: %w", err)
	}
	version, err := q.EnrichItem(ctx, db.EnrichItemParams{
		Title: title, ChangedBy: l.extract.WantedBy, ChangedAt: at, ID: l.item.ID, Version: l.item.Version, ChangedFields: changed, Before: raw,
	})
	if err != nil {
		return fmt.Errorf("update the item: %w", err)
	}
	origin := event.Origin{ActorUserID: l.extract.WantedBy}
	if t := telemetry.TraceFrom(ctx); t.ID != "" {
		origin.TraceID = &t.ID
	}
	envelope, err := event.New(event.ItemUpdated, event.Entity{Type: event.EntityItem, ID: l.item.ID, CollectionID: &l.item.CollectionID}, origin, at, event.ItemData{
		ItemID: l.item.ID, CollectionID: l.item.CollectionID, EntityVersion: version, ChangedFields: changed, SourceURL: l.item.SourceUrl,
	})
	if err != nil {
		return err
	}
	return postgres.WriteEvent(ctx, q, envelope)
}

// fail remembers why a page could not be had. What was there stays, and the item its version.
func (e *Enricher) fail(ctx context.Context, claim *db.ClaimExtractsRow, why *fetch.Error, record Record) (stored bool, err error) {
	err = postgres.InTx(ctx, e.pool, func(tx pgx.Tx) error {
		q := e.queries.WithTx(tx)
		_, ok, err := lock(ctx, q, claim)
		if err != nil || !ok {
			return err
		}
		stored = true
		out := Outcome{ItemID: claim.ItemID, Code: why.Code, Message: why.Message}
		at := time.Now().UTC().Truncate(time.Microsecond)
		failure := db.FailExtractParams{SourceUrl: &claim.SourceUrl, FetchedAt: &at, ErrorCode: &why.Code, ErrorMessage: &why.Message, ItemID: claim.ItemID}
		if why.Retry && claim.Tries < maxTries {
			due := at.Add(max(retryWait(claim.Tries), why.RetryAfter))
			failure.DueAt, out.Again = &due, true
		}
		if err := q.FailExtract(ctx, failure); err != nil {
			return fmt.Errorf("store the failure: %w", err)
		}
		return record(ctx, q, out)
	})
	if err != nil {
		return false, fmt.Errorf("remember why a page could not be had: %w", err)
	}
	return stored, nil
}

func retryWait(tries int32) time.Duration {
	wait := retryFirst
	for range tries - 1 {
		wait *= retryGrowth
	}
	return wait
}

// hash is what pages are compared by: all that is kept of what they say.
func hash(r *extract.Result) []byte {
	h := sha256.New()
	for _, field := range []string{r.Title, r.SiteName, r.Excerpt, r.Language, r.CanonicalURL, r.Text} {
		fmt.Fprintf(h, "%d:%s", len(field), field)
	}
	return h.Sum(nil)
}

// orNil also takes out what no text column can hold.
func orNil(s string) *string {
	if s = strings.ReplaceAll(s, "\x00", ""); s == "" {
		return nil
	}
	return &s
}
