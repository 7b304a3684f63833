package relay

import (
	"bytes"
	"encoding/hex"
	"encoding/json"

	"github.com/IBM/sarama"
	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/kafka"
)

var (
	eventIDKey     = []byte(kafka.HeaderEventID)
	eventTypeKey   = []byte(kafka.HeaderEventType)
	traceparentKey = []byte(kafka.HeaderTraceparent)
)

const (
	uuidLength = 36
	headersMax = 3
)

// records makes the record of each outbox row: keyed by the aggregate, the payload byte for byte as it was committed. They share a few large
// allocations: a batch lives and dies as one.
func records(rows []entry) []*sarama.Record {
	pointers, values := make([]*sarama.Record, len(rows)), make([]sarama.Record, len(rows))
	headers, headerPointers := make([]sarama.RecordHeader, 0, headersMax*len(rows)), make([]*sarama.RecordHeader, 0, headersMax*len(rows))
	text := make([]byte, 0, 2*uuidLength*len(rows))
	spell := func(id uuid.UUID) []byte {
		text = appendUUID(text, id)
		return text[len(text)-uuidLength:]
	}
	for i := range rows {
		row, begin := &rows[i], len(headers)
		headers = append(headers, sarama.RecordHeader{Key: eventIDKey, Value: spell(row.eventID)})
		// A payload without a type is published all the same: the consumers' dead-letter topic is where somebody will see it.
		if name := eventType(row.payload); len(name) > 0 {
			headers = append(headers, sarama.RecordHeader{Key: eventTypeKey, Value: name})
		}
		if len(row.traceparent) > 0 {
			headers = append(headers, sarama.RecordHeader{Key: traceparentKey, Value: row.traceparent})
		}
		for j := begin; j < len(headers); j++ {
			headerPointers = append(headerPointers, &headers[j])
		}
		values[i] = sarama.Record{Key: spell(row.aggregateID), Value: row.payload, Headers: headerPointers[begin:len(headers):len(headers)]}
		pointers[i] = &values[i]
	}
	return pointers
}

// appendUUID writes the id as text.
func appendUUID(b []byte, id uuid.UUID) []byte {
	for i, part := range [][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, part)
	}
	return b
}

var (
	payloadStart = []byte(`{"event_id":"`)
	payloadNext  = []byte(`","event_type":"`)
)

// eventType finds the type in an envelope. Envelopes that Atlas wrote begin with id and type, so most need not be parsed.
func eventType(payload []byte) []byte {
	if rest, ok := bytes.CutPrefix(payload, payloadStart); ok && len(rest) > uuidLength {
		if rest, ok = bytes.CutPrefix(rest[uuidLength:], payloadNext); ok {
			if name, _, closed := bytes.Cut(rest, []byte{'"'}); closed && bytes.IndexByte(name, '\\') < 0 {
				return name
			}
		}
	}
	var head struct {
		EventType string `json:"event_type"`
	}
	if json.Unmarshal(payload, &head) != nil {
		return nil
	}
	return []byte(head.EventType)
}
