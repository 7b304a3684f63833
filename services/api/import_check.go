package api

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/metadata"
	"github.com/atlas-platform/atlas/internal/portable"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// importedItem is an item that may be stored.
type importedItem struct {
	portable.Item
	// stored is the id that it gets; the nil UUID for one that is there already.
	stored   uuid.UUID
	metadata json.RawMessage
}

// check holds an item to the rules for a new one.
func (x *importer) check(item portable.Item) (importedItem, []portable.FieldError) {
	wrong := checkBody(x.portableItem, schemaValue(item))
	source, more := checkItem(&item.Content, item.SourceURL, &item.Tags)
	object, err := storedMetadata(item.Metadata)
	if len(wrong) == 0 { // else some of it would be said twice
		wrong = append(more, metadataError(err)...)
	}
	if wrong = append(wrong, x.times(item)...); len(wrong) > 0 {
		return importedItem{}, portableErrors(wrong)
	}
	item.SourceURL, item.Tags = source, normalTags(item.Tags)
	return importedItem{Item: item, metadata: object.Encode()}, nil
}

func storedMetadata(value map[string]any) (metadata.Object, error) {
	raw, err := portable.MarshalMetadata(value)
	if err != nil {
		return nil, err
	}
	return metadata.Parse(raw)
}

// times says what is wrong with the times of an item.
func (x *importer) times(item portable.Item) (wrong []gen.FieldError) {
	latest := x.recent()
	for _, t := range []struct {
		pointer string
		at      time.Time
	}{{"/created_at", item.CreatedAt}, {"/updated_at", item.UpdatedAt}} {
		if t.at.After(latest) {
			wrong = append(wrong, pointed(t.pointer, "must not be in the future"))
		}
	}
	if item.UpdatedAt.Before(item.CreatedAt) && !item.UpdatedAt.IsZero() {
		wrong = append(wrong, pointed("/updated_at", "must not be before created_at"))
	}
	return wrong
}

// schemaValue is the item as JSON would carry it, for the specification's own rules.
func schemaValue(item portable.Item) map[string]any {
	value := map[string]any{"title": item.Title, "content": item.Content}
	if item.SourceURL != nil {
		value["source_url"] = *item.SourceURL
	}
	if item.Tags != nil {
		tags := make([]any, len(item.Tags))
		for i, tag := range item.Tags {
			tags[i] = tag
		}
		value["tags"] = tags
	}
	if item.Metadata != nil {
		value["metadata"] = item.Metadata
	}
	return value
}

func portableErrors(wrong []gen.FieldError) []portable.FieldError {
	out := make([]portable.FieldError, len(wrong))
	for i, w := range wrong {
		out[i].Message = w.Message
		if w.Pointer != nil {
			out[i].Pointer = *w.Pointer
		}
	}
	return out
}

// abridge keeps what a report quotes short.
func abridge(text string) string {
	if len(text) <= maxImportText {
		return text
	}
	return strings.ToValidUTF8(text[:maxImportText], "") + "…"
}
