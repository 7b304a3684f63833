// Package indexing brings items from PostgreSQL, the truth, into the search index: it fetches them in batches, writes them with their row's
// version, and records what the index has. It can be repeated at will. While the index is being rebuilt, it writes to the new one as well.
package indexing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// How many items, and how many bytes of their contents, make a chunk. Two chunks are in memory at once, one that is written and one that is fetched,
// each content a few times over: as a row, as a document and as a line of the bulk request.
const (
	fetchSize  = 500
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

// Indexer writes to one alias, and to the index that is going to be behind it.
type Indexer struct {
	queries *db.Queries
	bulk    *elastic.BulkWriter // nil: PostgreSQL itself is searched
	mirror  *mirror             // nil: there is nothing else to write to
	records bool
}

// New makes an indexer.
func New(pool *pgxpool.Pool, es elastictransport.Interface, alias string) *Indexer {
	queries := db.New(pool)
	return &Indexer{
		queries: queries, bulk: elastic.NewBulkWriter(es, alias, 0), mirror: newMirror(queries, es, alias), records: true,
	}
}

// NewBuilder makes an indexer that writes to the target of an index that is being built and nowhere else. It records nothing: nobody searches there.
func NewBuilder(pool *pgxpool.Pool, es elastictransport.Interface, target string) *Indexer {
	return &Indexer{queries: db.New(pool), bulk: elastic.NewBulkWriter(es, target, 0)}
}

// NewRecorder makes an indexer for where PostgreSQL itself is searched: it writes nowhere and records that search has what is committed.
func NewRecorder(pool *pgxpool.Pool) *Indexer {
	return &Indexer{queries: db.New(pool), records: true}
}

// OnBusy has f called for each bulk request that Elasticsearch was too busy for.
func (x *Indexer) OnBusy(f func()) {
	if x.bulk != nil {
		x.bulk.OnBusy(f)
	}
	if x.mirror != nil {
		x.mirror.busy = f
	}
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
	var done outcome
	for f := range x.fetched(ctx, targets, sizes, versionType) {
		if f.err != nil {
			return nil, f.err
		}
		if err := x.write(ctx, f, versionType, &done); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err() // the last chunks may be missing
	}
	return done.rejections, x.record(ctx, &done)
}

// fetch is a chunk of targets, ready to be written.
type fetch struct {
	chunk   []Target
	actions []elastic.BulkAction
	also    string // what else is to be written than the alias
	err     error
}

// fetched reads and encodes each chunk while the one before is being written.
func (x *Indexer) fetched(ctx context.Context, targets []Target, sizes map[uuid.UUID]int, versionType elastic.VersionType) iter.Seq[fetch] {
	return func(yield func(fetch) bool) {
		ready := make(chan fetch)
		var work sync.WaitGroup
		defer work.Wait()
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		work.Go(func() {
			defer close(ready)
			for chunk := range chunks(targets, sizes) {
				select {
				case ready <- x.fetch(ctx, chunk, versionType):
				case <-ctx.Done():
					return
				}
			}
		})
		for f := range ready {
			if !yield(f) {
				return
			}
		}
	}
}

// fetch reads a chunk, and only then asks what is to be written: what appears later is filled with what it finds later.
func (x *Indexer) fetch(ctx context.Context, chunk []Target, versionType elastic.VersionType) fetch {
	f := fetch{chunk: chunk}
	if f.actions, f.err = x.actions(ctx, chunk, versionType); f.err == nil && x.mirror != nil {
		f.also, f.err = x.mirror.target(ctx)
	}
	return f
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

// actions are what the index is to be given for a chunk of targets.
func (x *Indexer) actions(ctx context.Context, targets []Target, versionType elastic.VersionType) ([]elastic.BulkAction, error) {
	rows, err := x.queries.ItemsForIndexing(ctx, itemIDs(targets))
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
	return actions, nil
}

// outcome is what became of the targets so far.
type outcome struct {
	indexed    []uuid.UUID
	versions   []int64
	rejections []Rejection
}

// rewrites is how often a chunk is read and written again because what is to be written has changed.
const rewrites = 3

func (x *Indexer) write(ctx context.Context, f fetch, versionType elastic.VersionType, done *outcome) error {
	results, err := x.send(ctx, f)
	for again := 0; errors.Is(err, errMoved) && again < rewrites; again++ {
		if f = x.fetch(ctx, f.chunk, versionType); f.err != nil {
			return f.err
		}
		results, err = x.send(ctx, f)
	}
	if err != nil {
		return fmt.Errorf("write to the index: %w", err)
	}
	for i, result := range results {
		id, version := uuid.MustParse(f.actions[i].ID), f.actions[i].Version
		if result.Outcome == elastic.BulkRejected {
			done.rejections = append(done.rejections, Rejection{ItemID: id, Version: version, Reason: result.Reason})
			continue
		}
		done.indexed, done.versions = append(done.indexed, id), append(done.versions, version)
	}
	return nil
}

// send writes a chunk everywhere. The results are those of the index that is searched.
func (x *Indexer) send(ctx context.Context, f fetch) ([]elastic.BulkResult, error) {
	switch {
	case x.bulk == nil:
		return make([]elastic.BulkResult, len(f.actions)), nil // all applied
	case f.also == "":
		return writeAll(ctx, x.bulk, f.actions)
	}
	mirrored := make(chan error, 1)
	go func() { mirrored <- x.mirror.write(ctx, f.also, f.actions) }()
	results, err := writeAll(ctx, x.bulk, f.actions)
	also := <-mirrored
	if err == nil {
		err = x.mirror.settle(ctx, f.also, also)
	}
	return results, err
}

func (x *Indexer) record(ctx context.Context, done *outcome) error {
	if !x.records {
		return nil
	}
	if len(done.indexed) > 0 {
		if err := x.queries.RecordIndexed(ctx, done.indexed, done.versions); err != nil {
			return fmt.Errorf("record the indexed versions: %w", err)
		}
	}
	return x.recordRefused(ctx, done.rejections)
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
	d := document(row)
	encoded, err := d.encode()
	if err != nil {
		return a, err
	}
	a.Version, a.Document = row.Version, encoded
	return a, nil
}
