// Package portable is the form in which items leave Atlas and come back: lines of NDJSON, or Markdown files with YAML front matter in a zip
// archive. Both are written and read as streams, and what is read is what was written.
package portable

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

const (
	// MaxContent is the limit of an item's content in bytes of UTF-8.
	MaxContent = 1 << 20
	// MaxLine is the limit of a line of NDJSON: a content whose every byte is escaped as \u00XX, and the rest.
	MaxLine = 9 << 20
	// MaxFrontMatter is the limit of a file's front matter, in bytes.
	MaxFrontMatter = 256 << 10

	// maxValues is far more than an item has. Without it, a line of brackets would take gigabytes to decode.
	maxValues = 20_000
	// maxDepth is more than metadata may have.
	maxDepth = 100
)

// Item is an item in an export.
type Item struct {
	// ID is the nil UUID when there is none.
	ID        uuid.UUID
	Title     string
	Content   string
	SourceURL *string
	Tags      []string
	// Metadata has numbers as json.Number, so that they stay as they are written.
	Metadata map[string]any
	// CreatedAt and UpdatedAt are zero when they are absent. They have the precision of PostgreSQL, microseconds.
	CreatedAt, UpdatedAt time.Time
}

// FieldError says what is wrong with a part of an item. The pointer is a JSON pointer into it, empty for the whole.
type FieldError struct{ Pointer, Message string }

// Record is what a line or a file holds: an item, or what is wrong with it.
type Record struct {
	// Source is "line 3" or the name of the file.
	Source string
	Item   Item
	Wrong  []FieldError
	// Skipped is set for what is left out of an archive. Wrong says why, but for folders.
	Skipped bool
}

// Reader reads records one after the other. Next returns io.EOF after the last one; any other error ends the reading.
type Reader interface {
	Next() (Record, error)
	// Position is where the next record begins, for a later reader of the same file. Its count of records is the number of the last one.
	Position() Position
}

// Position is a place between two records. The zero value is the beginning.
type Position struct {
	// Offset is where to read on, in bytes; 0 in an archive.
	Offset int64 `json:"offset"`
	// Records is how many lines, or entries of the archive, are before it.
	Records int64 `json:"records"`
	// Unpacked is how many bytes of the archive's files are, damaged ones included.
	Unpacked int64 `json:"unpacked,omitempty"`
}

// object decodes the fields that both forms have from the values of a JSON object.
type object struct {
	fields map[string]any
	wrong  []FieldError
}

func (o *object) fail(pointer, message string) {
	o.wrong = append(o.wrong, FieldError{Pointer: pointer, Message: message})
}

func (o *object) text(name string) string {
	value, found := o.fields[name]
	text, ok := value.(string)
	if found && !ok {
		o.fail("/"+name, "must be a string")
	}
	return text
}

func (o *object) id() uuid.UUID {
	text := o.text("id")
	if text == "" && o.fields["id"] == nil {
		return uuid.Nil
	}
	id, err := uuid.Parse(text)
	if err != nil || len(text) != 36 || id == uuid.Nil {
		o.fail("/id", "must be a UUID")
	}
	return id
}

func (o *object) sourceURL() *string {
	if o.fields["source_url"] == nil {
		return nil
	}
	text := o.text("source_url")
	return &text
}

func (o *object) tags() []string {
	value, found := o.fields["tags"]
	if !found {
		return nil
	}
	list, ok := value.([]any)
	if !ok {
		o.fail("/tags", "must be a list of strings")
		return nil
	}
	var tags []string
	for i, element := range list {
		tag, ok := element.(string)
		if !ok {
			o.fail(fmt.Sprintf("/tags/%d", i), "must be a string")
			continue
		}
		tags = append(tags, tag)
	}
	return tags
}

func (o *object) metadata() map[string]any {
	value, found := o.fields["metadata"]
	if !found {
		return nil
	}
	metadata, ok := value.(map[string]any)
	if !ok {
		o.fail("/metadata", "must be an object")
	}
	if len(metadata) == 0 {
		return nil
	}
	return metadata
}

var errTime = errors.New("must be a time such as 2026-01-22T10:00:00Z (RFC 3339)")

func (o *object) time(name string) time.Time {
	if _, found := o.fields[name]; !found {
		return time.Time{}
	}
	t, err := parseTime(o.text(name))
	if err != nil && o.fields[name] != nil {
		o.fail("/"+name, err.Error())
	} else if err != nil {
		o.fail("/"+name, errTime.Error())
	}
	return t
}

func parseTime(text string) (time.Time, error) {
	var t time.Time
	if err := t.UnmarshalText([]byte(text)); err != nil {
		return time.Time{}, errTime
	}
	t = t.UTC().Truncate(time.Microsecond)
	if t.Year() < 1 || t.Year() > 9999 || t.IsZero() {
		return time.Time{}, errors.New("must be in the years 1 to 9999")
	}
	return t, nil
}

func (o *object) item() (Item, []FieldError) {
	item := Item{
		ID: o.id(), Title: o.text("title"), Content: o.text("content"), SourceURL: o.sourceURL(), Tags: o.tags(), Metadata: o.metadata(),
		CreatedAt: o.time("created_at"), UpdatedAt: o.time("updated_at"),
	}
	if len(o.wrong) > 0 {
		return Item{}, o.wrong
	}
	return item, nil
}

// known are the fields of an item.
func known(name string) bool {
	switch name {
	case "id", "title", "content", "source_url", "tags", "metadata", "created_at", "updated_at":
		return true
	}
	return false
}

// line is an item as JSON.
type line struct {
	ID        *uuid.UUID      `json:"id,omitempty"`
	Title     string          `json:"title"`
	Content   string          `json:"content"`
	SourceURL *string         `json:"source_url"`
	Tags      []string        `json:"tags"`
	Metadata  json.RawMessage `json:"metadata"`
	CreatedAt *time.Time      `json:"created_at,omitempty"`
	UpdatedAt *time.Time      `json:"updated_at,omitempty"`
}
