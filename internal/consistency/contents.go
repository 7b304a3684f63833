package consistency

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/indexing"
)

// compareContents makes suspects of the gathered items whose documents have other contents.
func (c *indexCheck) compareContents(ctx context.Context) error {
	ids := c.deep
	c.deep = c.deep[:0]
	different, err := c.differing(ctx, ids)
	if err != nil {
		return err
	}
	for id := range different {
		if err := c.suspects.add(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// differing returns which items' documents have the right version and other contents.
func (c *indexCheck) differing(ctx context.Context, ids []uuid.UUID) (map[string]bool, error) {
	out := map[string]bool{}
	err := c.items.Documents(ctx, ids, func(want []indexing.Document) error {
		names := make([]string, len(want))
		for i := range want {
			names[i] = want[i].ID.String()
		}
		docs, err := c.get(ctx, names, true)
		if err != nil {
			return err
		}
		for i := range want {
			doc, there := docs[names[i]]
			if !there || doc.Version != want[i].Version {
				continue // not the same version: nothing to compare
			}
			same, err := sameContents(want[i], doc.Source)
			if err != nil {
				return err
			}
			if !same {
				out[names[i]] = true
			}
		}
		return nil
	})
	return out, err
}

// sameContents compares as JSON: what the index would be given, and what it has.
func sameContents(want indexing.Document, source json.RawMessage) (bool, error) {
	raw, err := json.Marshal(want)
	if err != nil {
		return false, fmt.Errorf("encode item: %w", err)
	}
	var a, b any
	if err := json.Unmarshal(raw, &a); err != nil {
		return false, fmt.Errorf("decode item: %w", err)
	}
	if err := json.Unmarshal(source, &b); err != nil {
		return false, nil //nolint:nilerr // what can't be read is not the same
	}
	return reflect.DeepEqual(a, b), nil
}
