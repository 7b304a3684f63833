package consistency

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/pause"
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
	var resisting []string
	for chunk := range slices.Chunk(ids, pageSize) {
		if err := c.mend(ctx, chunk); err != nil {
			return err
		}
		now, err := c.look(ctx, chunk)
		if err != nil {
			return err
		}
		for _, id := range chunk {
			if len(now[id].findings) == 0 {
				c.mended(wrong[id])
			} else if resists(now[id]) {
				resisting = append(resisting, id)
			}
		}
	}
	if len(resisting) == 0 {
		return nil
	}
	return c.overrule(ctx, resisting, wrong)
}

func (c *indexCheck) mended(v verdict) {
	for _, f := range v.findings {
		c.found.mended(f.kind)
	}
}

// resists tells whether the index holds a version against an item's: of a document that was changed by hand, or of one that was deleted by hand, which
// it remembers for a while.
func resists(v verdict) bool {
	return slices.ContainsFunc(v.findings, func(f finding) bool { return f.kind == IndexMissing || f.kind == IndexAhead })
}

const (
	overruleTries = 20
	overrulePause = 250 * time.Millisecond
)

// overrule has the index give up the versions that are newer than PostgreSQL's, which is the truth. For these moments it forgets what was deleted, so a
// write that was on its way since before a deletion could bring a document back: the next look, and the next check, would find it.
func (c *indexCheck) overrule(ctx context.Context, ids []string, wrong map[string]verdict) (err error) {
	if err := elastic.ForgetDeletes(ctx, c.es, c.alias, false); err != nil {
		return err
	}
	defer func() {
		restoring, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		err = errors.Join(err, elastic.ForgetDeletes(restoring, c.es, c.alias, true))
	}()
	for range overruleTries {
		var left []string
		for chunk := range slices.Chunk(ids, pageSize) {
			resisting, err := c.force(ctx, chunk, wrong)
			if err != nil {
				return err
			}
			left = append(left, resisting...)
		}
		if ids = left; len(ids) == 0 {
			return nil
		}
		if err := pause.For(ctx, overrulePause); err != nil {
			return err
		}
	}
	return nil // what is left is reported as not mended
}

// force takes out the documents that are ahead and writes the items once more. It returns those that the index still resists.
func (c *indexCheck) force(ctx context.Context, ids []string, wrong map[string]verdict) (left []string, err error) {
	docs, err := c.get(ctx, ids, false)
	if err != nil {
		return nil, err
	}
	items, err := c.rows(ctx, ids)
	if err != nil {
		return nil, err
	}
	var ahead []elastic.BulkAction
	for _, id := range ids {
		if doc, row := docs[id], items[id]; row != nil && doc.Version > row.Version {
			ahead = append(ahead, elastic.BulkAction{ID: id, Version: doc.Version, VersionType: elastic.VersionExternalGTE})
		}
	}
	if len(ahead) > 0 {
		if _, err := c.bulk.Write(ctx, ahead); err != nil {
			return nil, fmt.Errorf("delete documents: %w", err)
		}
	}
	if err := elastic.Refresh(ctx, c.es, c.alias); err != nil { // when deletes are forgotten
		return nil, err
	}
	if err := c.mend(ctx, ids); err != nil {
		return nil, err
	}
	now, err := c.look(ctx, ids)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if len(now[id].findings) == 0 {
			c.mended(wrong[id])
		} else {
			left = append(left, id)
		}
	}
	return left, nil
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
