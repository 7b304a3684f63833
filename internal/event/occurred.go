package event

import (
	"bytes"
	"encoding/json"
	"time"
)

var occurredAt = []byte(`"occurred_at":"`)

// OccurredAt returns when an encoded event occurred; the zero time when it does not say. It is cheap for events that Atlas wrote, which say it near
// their beginning and before their data.
func OccurredAt(b []byte) time.Time {
	_, rest, found := bytes.Cut(b[:min(len(b), 256)], occurredAt)
	if value, _, closed := bytes.Cut(rest, []byte{'"'}); found && closed {
		if t, err := time.Parse(time.RFC3339Nano, string(value)); err == nil {
			return t
		}
	}
	var e struct {
		OccurredAt time.Time `json:"occurred_at"`
	}
	if json.Unmarshal(b, &e) != nil {
		return time.Time{}
	}
	return e.OccurredAt
}
