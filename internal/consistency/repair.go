package consistency

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing"
)

// confirmed reports what is wrong in the index and, when asked, mends it and looks again.
func (c *indexCheck) confirmed(ctx context.Context, wrong map[string]verdict) error {
	ids := slices.Sorted(maps.Keys(wrong))
	for _, id := range ids {
		for _, f := range wrong[id].findings {
			c.found.add(id, f)
		}
	}
	if !c.opts.Repair {
		return nil
	}
	for chunk := range slices.Chunk(ids, pageSize) {
		if err := c.mend(ctx, chunk); err != nil {
			return err
		}
		now, err := c.look(ctx, chunk)
		if err != nil {
			return err
		}
		for _, id := range chunk {
			if len(now[id].findings) > 0 {
				continue
			}
			for _, f := range wrong[id].findings {
				c.found.mended(f.kind)
			}
		}
	}
	return nil
}

// mend writes the items that are there into the index again and takes out the documents of the others. Everything carries a version, so
// whoever writes at the same time is not set back.
func (c *indexCheck) mend(ctx context.Context, ids []string) error {
	docs, err := c.get(ctx, ids, false)
	if err != nil {
		return err
	}
	items, err := c.rows(ctx, ids)
	if err != nil {
		return err
	}
	var targets []indexing.Target
	var deletes []elastic.BulkAction
	for _, id := range ids {
		doc, row := docs[id], items[id]
		if row == nil || (row.Deleted && doc.Version > row.Version) {
			// The truth has no version for it, or none that the index would heed.
			deletes = append(deletes, elastic.BulkAction{ID: id, Version: max(doc.Version, 1), VersionType: elastic.VersionExternalGTE})
			continue
		}
		targets = append(targets, indexing.Target{ItemID: uuid.MustParse(id), Version: row.Version})
	}
	if len(deletes) > 0 {
		if _, err := c.bulk.Write(ctx, deletes); err != nil {
			return fmt.Errorf("delete documents: %w", err)
		}
	}
	// What Elasticsearch refuses is not mended, which the next look says.
	if _, err := c.items.Rewrite(ctx, targets); err != nil {
		return fmt.Errorf("write items to the index: %w", err)
	}
	return nil
}
