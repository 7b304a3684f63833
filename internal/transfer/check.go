package transfer

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/jsontext"
	"github.com/atlas-platform/atlas/internal/metadata"
	"github.com/atlas-platform/atlas/internal/portable"
	"github.com/atlas-platform/atlas/internal/sourceurl"
)

// The limits of an item, in characters. The specification has the same in its PortableItem; a test compares the two.
const (
	maxTitle  = 500
	maxSource = 2048
	maxTags   = 50
	maxTag    = 100
	maxErrors = 100
)

var webAddress = regexp.MustCompile(`^[Hh][Tt][Tt][Pp][Ss]?://[^\s]+$`)

// Item is an item that may be stored.
type Item struct {
	portable.Item
	// Number is the place of its record.
	Number int64
	// stored is the id that it gets; the nil UUID for one that is there already.
	stored   uuid.UUID
	metadata json.RawMessage
}

// Check holds an item to the rules for a new one. What is wrong is in the order of the pointers.
func Check(item portable.Item, latest time.Time) (Item, []portable.FieldError) {
	var c checker
	c.form(item)
	source, object := c.values(item)
	c.times(item, latest)
	if len(c.wrong) > 0 {
		return Item{}, c.wrong[:min(len(c.wrong), maxErrors)]
	}
	if strings.TrimSpace(item.Title) == "" {
		item.Title = ""
	}
	item.SourceURL, item.Tags = source, NormalTags(item.Tags)
	return Item{Item: item, metadata: object.Encode()}, nil
}

type checker struct{ wrong []portable.FieldError }

func (c *checker) fail(pointer, format string, args ...any) {
	c.wrong = append(c.wrong, portable.FieldError{Pointer: pointer, Message: fmt.Sprintf(format, args...)})
}

// form is what the specification's schema says.
func (c *checker) form(item portable.Item) {
	if utf8.RuneCountInString(item.Content) > portable.MaxContent {
		c.fail("/content", "must have at most %d bytes of UTF-8", portable.MaxContent)
	}
	c.noNUL("/content", item.Content)
	if len(item.Metadata) > metadata.MaxFields {
		c.fail("/metadata", "must have at most %d fields", metadata.MaxFields)
	}
	c.noNUL("/metadata", item.Metadata)
	if item.SourceURL != nil {
		if utf8.RuneCountInString(*item.SourceURL) > maxSource {
			c.fail("/source_url", "must have at most %d characters", maxSource)
		} else if !webAddress.MatchString(*item.SourceURL) {
			c.fail("/source_url", "must be an http or https URL")
		}
		c.noNUL("/source_url", *item.SourceURL)
	}
	if len(item.Tags) > maxTags {
		c.fail("/tags", "must have at most %d elements", maxTags)
	}
	for i, tag := range item.Tags {
		c.text(fmt.Sprintf("/tags/%d", i), tag, maxTag)
	}
	if utf8.RuneCountInString(item.Title) > maxTitle {
		c.fail("/title", "must have at most %d characters", maxTitle)
	}
	c.noNUL("/title", item.Title)
}

// text is for one that must not be blank.
func (c *checker) text(pointer, value string, most int) {
	switch {
	case value == "":
		c.fail(pointer, "must have at least 1 character")
	case utf8.RuneCountInString(value) > most:
		c.fail(pointer, "must have at most %d characters", most)
	case strings.Trim(value, "\t\n\f\r ") == "":
		c.fail(pointer, "must not be blank")
	}
	c.noNUL(pointer, value)
}

// noNUL names every string and key with a NUL character, which JSON can carry and PostgreSQL can't.
func (c *checker) noNUL(pointer string, value any) {
	switch value := value.(type) {
	case string:
		if strings.ContainsRune(value, 0) {
			c.fail(pointer, "has a NUL character, which can't be stored")
		}
	case []any:
		for i, element := range value {
			c.noNUL(fmt.Sprintf("%s/%d", pointer, i), element)
		}
	case map[string]any:
		names := make([]string, 0, len(value))
		for name := range value {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			c.noNUL(pointer+"/"+jsontext.EscapePointer(name), value[name])
		}
	}
}

// values is what the schema can't express. It says nothing about what has a wrong form: some of it would be said twice.
func (c *checker) values(item portable.Item) (source *string, object metadata.Object) {
	formed := len(c.wrong) == 0
	if formed && len(item.Content) > portable.MaxContent {
		c.fail("/content", "has %d bytes of UTF-8; at most %d are possible", len(item.Content), portable.MaxContent)
	}
	if formed && item.SourceURL != nil {
		canonical, err := sourceurl.Canonical(*item.SourceURL)
		if err != nil {
			c.fail("/source_url", "%s", err)
		}
		source = &canonical
	}
	if formed {
		for i, tag := range item.Tags {
			if strings.TrimSpace(tag) == "" { // the schema's \s knows ASCII's spaces only
				c.fail(fmt.Sprintf("/tags/%d", i), "must not be blank")
			}
		}
	}
	if formed && strings.TrimSpace(item.Title) == "" && item.SourceURL == nil {
		c.fail("/title", "must not be blank") // where there is a source, its page can give one
	}
	raw, err := portable.MarshalMetadata(item.Metadata)
	if err == nil {
		object, err = metadata.Parse(raw)
	}
	var wrong *metadata.Error
	switch {
	case err == nil || !formed:
	case errors.As(err, &wrong):
		c.fail("/metadata"+wrong.Pointer, "%s", wrong.Message)
	default:
		c.fail("/metadata", "%s", err)
	}
	return source, object
}

func (c *checker) times(item portable.Item, latest time.Time) {
	if item.CreatedAt.After(latest) {
		c.fail("/created_at", "must not be in the future")
	}
	if item.UpdatedAt.After(latest) {
		c.fail("/updated_at", "must not be in the future")
	}
	if item.UpdatedAt.Before(item.CreatedAt) && !item.UpdatedAt.IsZero() {
		c.fail("/updated_at", "must not be before created_at")
	}
}

// NormalTags trims tags and drops duplicates. They are sorted as the database sorts them for an answer.
func NormalTags(tags []string) []string {
	out := make([]string, len(tags))
	for i, tag := range tags {
		out[i] = strings.TrimSpace(tag)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
