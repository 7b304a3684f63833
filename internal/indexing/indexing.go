// Package indexing brings items from PostgreSQL, the truth, into the search index: it fetches them in batches, writes them with their row's
// version, and records what the index has. It can be repeated at will.
package indexing

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// How many items, and how many bytes of their contents, are in memory at once. Each content is there a few times over: as a row, as a document
// and as a line of the bulk request.
const (
	fetchSize  = 200
	fetchBytes = 4 << 20
)

// Target is an item to bring up to date.
type Target struct {
	ItemID uuid.UUID
	// Version is the newest version that the caller knows of. It is used only for the delete of an item that has no row any more.
	Version int64
}

// Rejection is an item that Elasticsearch will never take as it is.
type Rejection struct {
	ItemID  uuid.UUID
	Version int64
	Reason  string
}

// Document is an item as the index has it.
type Document struct {
	ID           uuid.UUID `json:"id"`
	CollectionID uuid.UUID `json:"collection_id"`
	Title        string    `json:"title"`
	Content      string    `json:"content"`
	Tags         []string  `json:"tags"`
	SourceURL    *string   `json:"source_url,omitempty"`
	CreatedBy    uuid.UUID `json:"created_by"`
	CreatedAt    time.Time `json:"created_at"`
	UpdatedAt    time.Time `json:"updated_at"`
	Version      int64     `json:"version"`
}

// Indexer writes to one alias.
type Indexer struct {
	queries *db.Queries
	bulk    *elastic.BulkWriter // nil: PostgreSQL itself is searched
}

// New makes an indexer.
func New(pool *pgxpool.Pool, es elastictransport.Interface, alias string) *Indexer {
	return &Indexer{queries: db.New(pool), bulk: elastic.NewBulkWriter(es, alias, 0)}
}

// NewRecorder makes an indexer for where PostgreSQL itself is searched: it writes nowhere and records that search has what is committed.
func NewRecorder(pool *pgxpool.Pool) *Indexer {
	return &Indexer{queries: db.New(pool)}
}

// Sync makes the index have the current state of each target: the item, or nothing when it or its collection is deleted. An index that has the
// same version already is left alone. An error means that nothing is certain and that the same call should be made again.
func (x *Indexer) Sync(ctx context.Context, targets []Target) ([]Rejection, error) {
	return x.each(ctx, targets, elastic.VersionExternal)
}

// Rewrite is Sync, but also replaces a document of the same version: it mends an index whose documents are wrong.
func (x *Indexer) Rewrite(ctx context.Context, targets []Target) ([]Rejection, error) {
	return x.each(ctx, targets, elastic.VersionExternalGTE)
}

// Page returns the next size items of a collection after the given id, deleted ones included; start after uuid.Nil.
func (x *Indexer) Page(ctx context.Context, collectionID, after uuid.UUID, size int32) ([]Target, error) {
	rows, err := x.queries.CollectionItemIDs(ctx, collectionID, after, size)
	if err != nil {
		return nil, fmt.Errorf("list the items of a collection: %w", err)
	}
	targets := make([]Target, len(rows))
	for i, row := range rows {
		targets[i] = Target{ItemID: row.ID, Version: row.Version}
	}
	return targets, nil
}

// Documents hands out the documents of the items that the index should have, as they are now: a few at a time, so that little is in memory.
func (x *Indexer) Documents(ctx context.Context, ids []uuid.UUID, use func([]Document) error) error {
	targets := make([]Target, len(ids))
	for i, id := range ids {
		targets[i] = Target{ItemID: id}
	}
	sizes, err := x.sizes(ctx, targets)
	if err != nil {
		return err
	}
	for chunk := range chunks(targets, sizes) {
		rows, err := x.queries.ItemsForIndexing(ctx, itemIDs(chunk))
		if err != nil {
			return fmt.Errorf("fetch items: %w", err)
		}
		documents := make([]Document, 0, len(rows))
		for i := range rows {
			if !rows[i].Deleted {
				documents = append(documents, document(&rows[i]))
			}
		}
		if err := use(documents); err != nil {
			return err
		}
	}
	return nil
}

func itemIDs(targets []Target) []uuid.UUID {
	ids := make([]uuid.UUID, len(targets))
	for i, t := range targets {
		ids[i] = t.ItemID
	}
	return ids
}

func (x *Indexer) each(ctx context.Context, targets []Target, versionType elastic.VersionType) ([]Rejection, error) {
	// In id order, so that two indexers that record the same items can't deadlock; the newest version of each.
	targets = slices.Clone(targets)
	slices.SortFunc(targets, func(a, b Target) int {
		if c := bytes.Compare(a.ItemID[:], b.ItemID[:]); c != 0 {
			return c
		}
		return int(b.Version - a.Version)
	})
	targets = slices.CompactFunc(targets, func(a, b Target) bool { return a.ItemID == b.ItemID })
	sizes, err := x.sizes(ctx, targets)
	if err != nil {
		return nil, err
	}
	var rejections []Rejection
	for chunk := range chunks(targets, sizes) {
		more, err := x.chunk(ctx, chunk, versionType)
		if err != nil {
			return nil, err
		}
		rejections = append(rejections, more...)
	}
	return rejections, nil
}

// sizes are the bytes of the targets' contents; a target without a row has none.
func (x *Indexer) sizes(ctx context.Context, targets []Target) (map[uuid.UUID]int, error) {
	rows, err := x.queries.ItemContentBytes(ctx, itemIDs(targets))
	if err != nil {
		return nil, fmt.Errorf("measure items: %w", err)
	}
	sizes := make(map[uuid.UUID]int, len(rows))
	for _, row := range rows {
		sizes[row.ID] = int(row.Bytes)
	}
	return sizes, nil
}

// chunks cuts the targets so that no chunk has more than fetchSize items or, unless it is a single item, fetchBytes of contents.
func chunks(targets []Target, sizes map[uuid.UUID]int) iter.Seq[[]Target] {
	return func(yield func([]Target) bool) {
		start, total := 0, 0
		for i, t := range targets {
			size := sizes[t.ItemID]
			if i > start && (i-start == fetchSize || total+size > fetchBytes) {
				if !yield(targets[start:i]) {
					return
				}
				start, total = i, 0
			}
			total += size
		}
		if start < len(targets) {
			yield(targets[start:])
		}
	}
}

func (x *Indexer) chunk(ctx context.Context, targets []Target, versionType elastic.VersionType) ([]Rejection, error) {
	ids := itemIDs(targets)
	rows, err := x.queries.ItemsForIndexing(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("fetch items: %w", err)
	}
	byID := make(map[uuid.UUID]*db.ItemsForIndexingRow, len(rows))
	for i := range rows {
		byID[rows[i].ID] = &rows[i]
	}
	actions := make([]elastic.BulkAction, len(targets))
	for i, t := range targets {
		if actions[i], err = action(t, byID[t.ItemID], versionType); err != nil {
			return nil, err
		}
	}
	results := make([]elastic.BulkResult, len(actions)) // all applied
	if x.bulk != nil {
		if results, err = x.bulk.Write(ctx, actions); err != nil {
			return nil, fmt.Errorf("write to the index: %w", err)
		}
	}
	var rejections []Rejection
	var indexed []uuid.UUID
	var versions []int64
	for i, result := range results {
		if result.Outcome == elastic.BulkRejected {
			rejections = append(rejections, Rejection{ItemID: ids[i], Version: actions[i].Version, Reason: result.Reason})
			continue
		}
		indexed, versions = append(indexed, ids[i]), append(versions, actions[i].Version)
	}
	if err := x.queries.RecordIndexed(ctx, indexed, versions); err != nil {
		return nil, fmt.Errorf("record the indexed versions: %w", err)
	}
	return rejections, x.recordRefused(ctx, rejections)
}

// maxReason bounds what is kept of Elasticsearch's words, in bytes.
const maxReason = 500

func (x *Indexer) recordRefused(ctx context.Context, rejections []Rejection) error {
	if len(rejections) == 0 {
		return nil
	}
	ids, versions, reasons := make([]uuid.UUID, len(rejections)), make([]int64, len(rejections)), make([]string, len(rejections))
	for i, r := range rejections {
		ids[i], versions[i], reasons[i] = r.ItemID, r.Version, shorten(r.Reason)
	}
	if err := x.queries.RecordRefused(ctx, ids, versions, reasons); err != nil {
		return fmt.Errorf("record the refused versions: %w", err)
	}
	return nil
}

// shorten makes a text that PostgreSQL takes, whatever Elasticsearch said.
func shorten(reason string) string {
	reason = strings.ReplaceAll(strings.ToValidUTF8(reason, "\uFFFD"), "\x00", "\uFFFD")
	if len(reason) <= maxReason {
		return reason
	}
	return strings.ToValidUTF8(reason[:maxReason], "") + "…"
}

func action(t Target, row *db.ItemsForIndexingRow, versionType elastic.VersionType) (elastic.BulkAction, error) {
	a := elastic.BulkAction{ID: t.ItemID.String(), VersionType: versionType}
	if row == nil || row.Deleted {
		// A document of the very version goes too: the row says that it is not there.
		a.Version, a.VersionType = max(t.Version, 1), elastic.VersionExternalGTE
		if row != nil {
			a.Version = row.Version
		}
		return a, nil
	}
	encoded, err := json.Marshal(document(row))
	if err != nil {
		return a, fmt.Errorf("encode item: %w", err)
	}
	a.Version, a.Document = row.Version, encoded
	return a, nil
}

func document(row *db.ItemsForIndexingRow) Document {
	return Document{
		ID: row.ID, CollectionID: row.CollectionID, Title: row.Title, Content: row.Content, Tags: row.Tags, SourceURL: row.SourceUrl,
		CreatedBy: row.CreatedBy, CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(), Version: row.Version,
	}
}
