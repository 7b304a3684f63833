package relay

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/atlas-platform/atlas/internal/telemetry"
)

// recordSpans tells the traces of a batch's events that Kafka has them. What the consumers do comes after the request's span and beside these: the record
// was made before.
func (l *leader) recordSpans(ctx context.Context, batch []entry, sent []int, began time.Time) {
	if !telemetry.TracesSpans(ctx) {
		return
	}
	ended := time.Now()
	for _, i := range sent {
		telemetry.RecordSpan(ctx, trace.SpanKindProducer, "send "+l.relay.cfg.Topic, string(batch[i].traceparent), began, ended,
			attribute.String("messaging.system", "kafka"), attribute.String("messaging.operation.name", "send"),
			attribute.String("messaging.destination.name", l.relay.cfg.Topic), attribute.String("atlas.event.type", string(eventType(batch[i].payload))))
	}
}
