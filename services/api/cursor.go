package api

import (
	"time"

	"github.com/google/uuid"
)

// lastID is before every UUIDv7 in a list that starts with the newest.
var lastID = uuid.Max

// position is where a page ended.
type position struct {
	ID   uuid.UUID `json:"i,omitzero"`
	Time time.Time `json:"t,omitzero"`
	// Text is the title or the name that the page ended with, in lists that are sorted by it.
	Text string `json:"x,omitempty"`
	// Version is an item's.
	Version int64 `json:"v,omitzero"`
	// Inner is the cursor of the search engine.
	Inner string `json:"s,omitempty"`
}

// resume returns where the page begins that a cursor of the list that scope describes asks for. A nil cursor is the start.
func (s *server) resume(cursor *string, start position, scope ...any) (position, error) {
	if cursor == nil {
		return start, nil
	}
	var p position
	if s.cursors.Decode(*cursor, &p, scope...) {
		return p, nil
	}
	const message = "is not next_cursor of a page of this list with the same filters"
	return position{}, badRequest("cursor "+message, parameter("cursor", message))
}
