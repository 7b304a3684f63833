package kafka

import (
	"context"
	"encoding/json"
	"time"

	"github.com/IBM/sarama"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

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

// recordSpans tells the traces of a batch's messages that this group has done its work for them. The messages of a batch are worked on together.
func recordSpans(ctx context.Context, group string, batch []*sarama.ConsumerMessage, began time.Time) {
	if !telemetry.TracesSpans(ctx) {
		return
	}
	ended := time.Now()
	for _, msg := range batch {
		telemetry.RecordSpan(ctx, trace.SpanKindConsumer, "process "+msg.Topic, Header(msg, HeaderTraceparent), began, ended,
			attribute.String("messaging.system", "kafka"), attribute.String("messaging.operation.name", "process"),
			attribute.String("messaging.destination.name", msg.Topic), attribute.String("messaging.consumer.group.name", group),
			attribute.Int("messaging.kafka.partition", int(msg.Partition)), attribute.Int64("messaging.kafka.offset", msg.Offset),
			attribute.String("atlas.event.type", Header(msg, HeaderEventType)), attribute.Int("messaging.batch.message_count", len(batch)))
	}
}
