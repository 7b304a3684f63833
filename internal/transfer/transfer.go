// Package transfer moves a collection's items out of the database and into it, a batch at a time: what the REST API's own import and export and the jobs of
// these names have in common. Who may do that, and where the items come from and go to, is theirs.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/portable"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// Batch and Bytes are how many items, and how many bytes of their contents, are in memory at once.
const (
	Batch = 200
	Bytes = 4 << 20
)

// Writer is one of the forms of an export.
type Writer interface {
	Write(item portable.Item) error
	Close() error
	// Discard frees what the writer holds, complete or not.
	Discard()
}

// Exporter reads a collection by keyset on the id, a batch at a time, without a transaction: every item that is there from beginning to end of the
// export, each as it is when it is read.
type Exporter struct {
	Queries    *db.Queries
	Collection uuid.UUID
	// User, when set, has to be a member: of what a user may not see any more there is nothing.
	User *uuid.UUID
	// After is the last id that was read.
	After uuid.UUID
	sizes []db.ExportSizesRow
	ended bool
}

// Next returns the next items, or io.EOF. Fewer are true when some of those that it had listed could not be read any more: deleted meanwhile, or the
// user is no member.
func (x *Exporter) Next(ctx context.Context) (items []portable.Item, fewer bool, err error) {
	if len(x.sizes) == 0 && !x.ended {
		if x.sizes, err = x.Queries.ExportSizes(ctx, x.Collection, x.After, Batch); err != nil {
			return nil, false, fmt.Errorf("list the items to export: %w", err)
		}
		x.ended = len(x.sizes) < Batch
	}
	if len(x.sizes) == 0 {
		return nil, false, io.EOF
	}
	ids := x.chunk()
	rows, err := x.Queries.ExportItems(ctx, ids, x.Collection, x.User)
	if err != nil {
		return nil, false, fmt.Errorf("read the items to export: %w", err)
	}
	items = make([]portable.Item, len(rows))
	for i, row := range rows {
		if items[i], err = portableItem(row); err != nil {
			return nil, false, err
		}
	}
	return items, len(rows) < len(ids), nil
}

// chunk takes the next ids: of no more than Bytes of contents, unless a single item has more.
func (x *Exporter) chunk() []uuid.UUID {
	var ids []uuid.UUID
	total := 0
	for len(x.sizes) > 0 {
		next := x.sizes[0]
		if total += int(next.Bytes); len(ids) > 0 && total > Bytes {
			break
		}
		ids, x.sizes, x.After = append(ids, next.ID), x.sizes[1:], next.ID
	}
	return ids
}

func portableItem(row db.ExportItemsRow) (portable.Item, error) {
	metadata, err := portable.UnmarshalMetadata(row.Metadata)
	return portable.Item{
		ID: row.ID, Title: row.Title, Content: row.Content, SourceURL: row.SourceUrl, Tags: row.Tags, Metadata: metadata,
		CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(),
	}, err
}

// Collector gathers checked items until they are a batch.
type Collector struct {
	Items []Item
	bytes int
}

// Add adds an item and tells whether the batch is full.
func (c *Collector) Add(item Item) (full bool) {
	c.Items = append(c.Items, item)
	c.bytes += len(item.Content) + len(item.metadata)
	return len(c.Items) >= Batch || c.bytes >= Bytes
}

// Reset lets go of the items.
func (c *Collector) Reset() {
	clear(c.Items)
	c.Items, c.bytes = c.Items[:0], 0
}

// Latest is the newest time that an item can have: clocks differ a little.
func Latest(now time.Time) time.Time { return now.Add(time.Minute) }

var errNoActor = errors.New("items need an author")
