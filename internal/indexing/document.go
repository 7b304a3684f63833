package indexing

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// Document is an item as the index has it.
type Document struct {
	ID           uuid.UUID `json:"id"`
	CollectionID uuid.UUID `json:"collection_id"`
	Title        string    `json:"title"`
	Content      string    `json:"content"`
	Extract      string    `json:"extract,omitempty"` // what the page at SourceURL says
	Tags         []string  `json:"tags"`
	SourceURL    *string   `json:"source_url,omitempty"`
	CreatedBy    uuid.UUID `json:"created_by"`
	CreatedAt    time.Time `json:"created_at"`
	UpdatedAt    time.Time `json:"updated_at"`
	Version      int64     `json:"version"`
}

var _ json.Marshaler = (*Document)(nil)

func document(row *db.ItemsForIndexingRow) Document {
	return Document{
		ID: row.ID, CollectionID: row.CollectionID, Title: row.Title, Content: row.Content, Tags: row.Tags, SourceURL: row.SourceUrl,
		CreatedBy: row.CreatedBy, CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(), Version: row.Version, Extract: value(row.Extract),
	}
}

func value(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

// encode writes the document as encoding/json would, without reflection and in one piece of memory.
func (d *Document) encode() ([]byte, error) {
	b := make([]byte, 0, 400+len(d.Title)+len(d.Content)+len(d.Content)/16+len(d.Extract)+len(d.Extract)/16)
	b = appendID(append(b, `{"id":`...), d.ID)
	b = appendID(append(b, `,"collection_id":`...), d.CollectionID)
	b = appendString(append(b, `,"title":`...), d.Title)
	b = appendString(append(b, `,"content":`...), d.Content)
	if d.Extract != "" {
		b = appendString(append(b, `,"extract":`...), d.Extract)
	}
	b = append(b, `,"tags":[`...)
	for i, tag := range d.Tags {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, tag)
	}
	b = append(b, ']')
	if d.SourceURL != nil {
		b = appendString(append(b, `,"source_url":`...), *d.SourceURL)
	}
	b = appendID(append(b, `,"created_by":`...), d.CreatedBy)
	for _, t := range []struct {
		name string
		time time.Time
	}{{`,"created_at":`, d.CreatedAt}, {`,"updated_at":`, d.UpdatedAt}} {
		text, err := t.time.MarshalJSON() // refuses what is no RFC 3339 time
		if err != nil {
			return nil, fmt.Errorf("encode item: %w", err)
		}
		b = append(append(b, t.name...), text...)
	}
	b = strconv.AppendInt(append(b, `,"version":`...), d.Version, 10)
	return append(b, '}'), nil
}

// MarshalJSON implements json.Marshaler.
func (d *Document) MarshalJSON() ([]byte, error) { return d.encode() }

func appendID(b []byte, id uuid.UUID) []byte {
	b = append(b, '"')
	n := len(b)
	b = append(b, "00000000-0000-0000-0000-000000000000\""...)
	const hex = "0123456789abcdef"
	at := n
	for i, x := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			at++
		}
		b[at], b[at+1] = hex[x>>4], hex[x&15]
		at += 2
	}
	return b
}

// plain are the bytes that a JSON string has as they are; those of characters beyond ASCII are looked at on their own.
var plain = func() (t [utf8.RuneSelf]bool) {
	for c := range t {
		t[c] = c >= ' ' && c != '"' && c != '\\'
	}
	return t
}()

func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf && plain[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 { // never from PostgreSQL
				b = append(append(b, s[start:i]...), `\ufffd`...)
				i++
				start = i
				continue
			}
			i += size
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		start = i
	}
	return append(append(b, s[start:]...), '"')
}
