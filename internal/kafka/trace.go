package kafka

import (
	"context"
	"encoding/json"
	"time"

	"github.com/IBM/sarama"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/telemetry"
)

// WithTrace returns a context with the trace of the request that caused the message, as the event and the record's header tell it: what is logged
// with the context has its trace_id, what is written with it passes the traceparent on.
func WithTrace(ctx context.Context, msg *sarama.ConsumerMessage) context.Context {
	var e struct {
		TraceID string `json:"trace_id"`
	}
	_ = json.Unmarshal(msg.Value, &e) // poison has no trace
	t := telemetry.Trace{ID: e.TraceID, Parent: Header(msg, HeaderTraceparent)}
	if t == (telemetry.Trace{}) {
		return ctx
	}
	return telemetry.WithTrace(ctx, t)
}

// EventTime returns when the event in a message occurred; the record's time when it does not say.
func EventTime(msg *sarama.ConsumerMessage) time.Time {
	if t := event.OccurredAt(msg.Value); !t.IsZero() {
		return t
	}
	return msg.Timestamp
}

// Header returns the value of a record's header, or "".
func Header(msg *sarama.ConsumerMessage, key string) string {
	for _, h := range msg.Headers {
		if h != nil && string(h.Key) == key {
			return string(h.Value)
		}
	}
	return ""
}
