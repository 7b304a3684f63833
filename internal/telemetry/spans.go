package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Tracing says where spans are sent and of which requests.
type Tracing struct {
	// Endpoint is the URL of a collector that takes OTLP over HTTP. Without it there are no spans, and nothing is spent on them.
	Endpoint string
	// Service is the name under which the spans appear.
	Service string
	// Sampler is one of Samplers; Share is its argument, from 0 to 1.
	Sampler string
	Share   float64
}

// Samplers are the values of OTEL_TRACES_SAMPLER that are known.
func Samplers() []string {
	return []string{
		"parentbased_traceidratio", "parentbased_always_on", "parentbased_always_off", "traceidratio", "always_on", "always_off",
	}
}

func (t *Tracing) sampler() sdktrace.Sampler {
	kind, parentBased := strings.CutPrefix(t.Sampler, "parentbased_")
	var sampler sdktrace.Sampler
	switch kind {
	case "always_on":
		sampler = sdktrace.AlwaysSample()
	case "always_off":
		sampler = sdktrace.NeverSample()
	default:
		sampler = sdktrace.TraceIDRatioBased(t.Share)
	}
	if parentBased {
		return sdktrace.ParentBased(sampler)
	}
	return sampler
}

type tracerKey struct{}

// StartTracing returns a context whose spans are sent to the collector, and what sends the last ones and stops. A collector that is away costs spans, and
// nothing else.
func StartTracing(ctx context.Context, t Tracing, logger *slog.Logger) (context.Context, func(context.Context) error, error) {
	if t.Endpoint == "" {
		return ctx, func(context.Context) error { return nil }, nil
	}
	endpoint, err := url.JoinPath(t.Endpoint, "v1", "traces")
	if err != nil {
		return nil, nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint))
	if err != nil {
		return nil, nil, fmt.Errorf("make the exporter of spans: %w", err)
	}
	// OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME go before the role's own name.
	from, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", t.Service)), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(&tellingExporter{SpanExporter: exporter, logger: logger}), sdktrace.WithSampler(t.sampler()), sdktrace.WithResource(from))
	return context.WithValue(ctx, tracerKey{}, provider.Tracer("github.com/atlas-platform/atlas")), provider.Shutdown, nil
}

// tellingExporter logs that a collector is away, and that it is back, once each. The SDK would write a line of its own for every batch.
type tellingExporter struct {
	sdktrace.SpanExporter
	logger *slog.Logger
	away   bool // the SDK exports one batch at a time
}

func (e *tellingExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil && !e.away:
		e.logger.WarnContext(ctx, "spans are not sent and lost until the collector (OTEL_EXPORTER_OTLP_ENDPOINT) takes them again", "error", err)
	case err == nil && e.away:
		e.logger.InfoContext(ctx, "the collector takes spans again")
	}
	e.away = err != nil
	return nil
}

// CarryTracer returns a context that makes spans where from does.
func CarryTracer(ctx, from context.Context) context.Context {
	if tracer := tracerFrom(from); tracer != nil {
		return context.WithValue(ctx, tracerKey{}, tracer)
	}
	return ctx
}

func tracerFrom(ctx context.Context) trace.Tracer {
	tracer, _ := ctx.Value(tracerKey{}).(trace.Tracer)
	return tracer
}

// TracesSpans tells whether spans are made at all.
func TracesSpans(ctx context.Context) bool { return tracerFrom(ctx) != nil }

// Span is a part of a trace. The zero Span is none.
type Span struct{ span trace.Span }

// StartSpan begins a span under the Trace of ctx, or one of a new trace. The context it returns has the Trace that goes on from this span: what is written
// with it names the span as its cause. Without a collector, both are as they were.
func StartSpan(ctx context.Context, kind trace.SpanKind, name string, attributes ...attribute.KeyValue) (context.Context, Span) {
	tracer := tracerFrom(ctx)
	if tracer == nil {
		return ctx, Span{}
	}
	t := TraceFrom(ctx)
	ctx, span := tracer.Start(withParent(ctx, t.Parent), name, trace.WithSpanKind(kind), trace.WithAttributes(attributes...))
	is := span.SpanContext()
	t.Parent = "00-" + is.TraceID().String() + "-" + is.SpanID().String() + "-" + is.TraceFlags().String()
	if t.ID == "" {
		t.ID = is.TraceID().String()
	}
	return WithTrace(ctx, t), Span{span}
}

// RecordSpan tells of something that was done for a trace in the past, if the trace is sampled. Without a collector it does nothing.
func RecordSpan(ctx context.Context, kind trace.SpanKind, name, traceparent string, began, ended time.Time, attributes ...attribute.KeyValue) {
	tracer := tracerFrom(ctx)
	if tracer == nil || traceparent == "" {
		return
	}
	parent := withParent(ctx, traceparent)
	if !trace.SpanContextFromContext(parent).IsSampled() {
		return
	}
	_, span := tracer.Start(parent, name, trace.WithSpanKind(kind), trace.WithTimestamp(began), trace.WithAttributes(attributes...))
	span.End(trace.WithTimestamp(ended))
}

// withParent returns a context whose next span continues a W3C traceparent; the first one of a trace where there is none.
func withParent(ctx context.Context, traceparent string) context.Context {
	return propagation.TraceContext{}.Extract(trace.ContextWithSpanContext(ctx, trace.SpanContext{}), propagation.MapCarrier{"traceparent": traceparent})
}

// TraceID is the W3C trace id of a span; empty for the zero Span.
func (s Span) TraceID() string {
	if s.span == nil {
		return ""
	}
	return s.span.SpanContext().TraceID().String()
}

// Describe names a span anew and adds to what it says.
func (s Span) Describe(name string, attributes ...attribute.KeyValue) {
	if s.span != nil {
		s.span.SetName(name)
		s.span.SetAttributes(attributes...)
	}
}

// Fail marks a span as failed.
func (s Span) Fail(why string) {
	if s.span != nil {
		s.span.SetStatus(codes.Error, why)
	}
}

// End ends a span.
func (s Span) End() {
	if s.span != nil {
		s.span.End()
	}
}
