package consistency

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// Differences looks once at some items and says what is wrong with their documents, contents included. What is on its way differs too, and what
// the index refused or nobody recorded does not.
func (c *Checker) Differences(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]string, error) {
	if c.es == nil {
		return nil, errNoIndex
	}
	check := &indexCheck{Checker: c}
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = id.String()
	}
	if len(names) == 0 {
		return nil, nil
	}
	docs, err := c.get(ctx, names, false)
	if err != nil {
		return nil, err
	}
	items, err := check.rows(ctx, names)
	if err != nil {
		return nil, err
	}
	different, err := check.differing(ctx, wholly(names, items, docs))
	if err != nil {
		return nil, err
	}
	out := map[uuid.UUID]string{}
	for i, name := range names {
		var doc *stored
		if d, ok := docs[name]; ok {
			doc = &d
		}
		for _, f := range judgeDocument(items[name], doc) {
			if f.kind != IndexUnrecorded && f.kind != IndexRefused {
				out[ids[i]] = fmt.Sprintf("%s: %s", f.kind, f.detail)
			}
		}
		if different[name] {
			out[ids[i]] = string(IndexDifferent)
		}
	}
	return out, nil
}
