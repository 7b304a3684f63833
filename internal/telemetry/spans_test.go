package telemetry_test

import (
	"bytes"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/atlas-platform/atlas/internal/telemetry"
	"github.com/atlas-platform/atlas/internal/telemetry/telemetrytest"
)

const (
	traceOfCaller = "0af7651916cd43dd8448eb211c80319c"
	sampled       = "00-" + traceOfCaller + "-b7ad6b7169203331-01"
	unsampled     = "00-" + traceOfCaller + "-b7ad6b7169203331-00"
)

func TestSpansGoOnFromACallersTrace(t *testing.T) {
	t.Parallel()
	c := telemetrytest.NewCollector(t)
	ctx, stop, err := telemetry.StartTracing(t.Context(), telemetry.Tracing{
		Endpoint: c.Endpoint(), Service: "atlas-api", Sampler: "parentbased_traceidratio", Share: 0,
	}, quiet())
	require.NoError(t, err)

	// What a request writes names the request's span as its cause, and so the spans of other processes come under it.
	request, span := telemetry.StartSpan(telemetry.WithTrace(ctx, telemetry.Trace{ID: traceOfCaller, Parent: sampled}), trace.SpanKindServer, "request")
	cause := telemetry.TraceFrom(request)
	require.Equal(t, traceOfCaller, cause.ID)
	require.NotEqual(t, sampled, cause.Parent)
	began := time.Now().Add(-time.Minute)
	telemetry.RecordSpan(ctx, trace.SpanKindConsumer, "consumer", cause.Parent, began, began.Add(time.Second), attribute.Int("n", 1))
	span.Describe("GET /v1/items", attribute.String("http.route", "/v1/items"))
	span.Fail("broken")
	span.End()

	// Who decides against it decides for all.
	_, dropped := telemetry.StartSpan(telemetry.WithTrace(ctx, telemetry.Trace{Parent: unsampled}), trace.SpanKindServer, "dropped")
	dropped.End()
	telemetry.RecordSpan(ctx, trace.SpanKindConsumer, "dropped too", unsampled, began, began)
	telemetry.RecordSpan(ctx, trace.SpanKindConsumer, "no trace", "nonsense", began, began)
	// Nobody has decided: the share has.
	own, root := telemetry.StartSpan(ctx, trace.SpanKindServer, "root")
	root.End()
	require.Len(t, telemetry.TraceFrom(own).ID, 32)
	require.Regexp(t, "^00-"+telemetry.TraceFrom(own).ID+"-[0-9a-f]{16}-00$", telemetry.TraceFrom(own).Parent)

	require.NoError(t, stop(t.Context()), "the last spans are sent")
	require.Len(t, c.Spans(), 2)
	consumer, server := c.Spans()[0], c.Spans()[1] // as they ended
	require.Equal(t, "consumer", consumer.GetName())
	require.Equal(t, "GET /v1/items", server.GetName())
	require.Equal(t, "b7ad6b7169203331", hexOf(server.GetParentSpanId()))
	require.Equal(t, tracepb.Status_STATUS_CODE_ERROR, server.GetStatus().GetCode())
	require.Equal(t, server.GetTraceId(), consumer.GetTraceId())
	require.Equal(t, server.GetSpanId(), consumer.GetParentSpanId())
	require.Equal(t, uint64(time.Second), consumer.GetEndTimeUnixNano()-consumer.GetStartTimeUnixNano())
	require.Equal(t, "atlas-api", c.Resource()["service.name"])
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func hexOf(b []byte) string { return trace.SpanID(b).String() }

func TestShareOfOwnTraces(t *testing.T) {
	t.Parallel()
	for sampler, spans := range map[string]int{"parentbased_traceidratio": 1, "always_off": 0, "parentbased_always_on": 1, "traceidratio": 1} {
		c := telemetrytest.NewCollector(t)
		ctx, stop, err := telemetry.StartTracing(t.Context(), telemetry.Tracing{Endpoint: c.Endpoint() + "/", Service: "x", Sampler: sampler, Share: 1}, quiet())
		require.NoError(t, err)
		_, span := telemetry.StartSpan(ctx, trace.SpanKindInternal, "x")
		span.End()
		require.NoError(t, stop(t.Context()))
		require.Len(t, c.Spans(), spans, sampler)
	}
}

// TestWithoutCollectorNothingIsSpent has no other test beside it, whose goroutines would count.
func TestWithoutCollectorNothingIsSpent(t *testing.T) { //nolint:paralleltest // it counts goroutines
	before := runtime.NumGoroutine()
	ctx, stop, err := telemetry.StartTracing(t.Context(), telemetry.Tracing{Service: "x", Sampler: "always_on", Share: 1}, quiet())
	require.NoError(t, err)
	require.Equal(t, t.Context(), ctx)
	ctx = telemetry.WithTrace(ctx, telemetry.Trace{ID: "a", Parent: sampled})
	allocations := testing.AllocsPerRun(100, func() {
		same, span := telemetry.StartSpan(ctx, trace.SpanKindServer, "x")
		span.Describe("y")
		span.Fail("z")
		span.End()
		telemetry.RecordSpan(same, trace.SpanKindServer, "x", sampled, time.Time{}, time.Time{})
		if same != ctx || telemetry.TracesSpans(same) {
			panic("the context changed")
		}
	})
	require.Zero(t, allocations)
	require.LessOrEqual(t, runtime.NumGoroutine(), before)
	require.NoError(t, stop(t.Context()))
}

func TestCollectorThatIsAwayHoldsNothingUp(t *testing.T) {
	t.Parallel()
	c := telemetrytest.NewCollector(t)
	c.Close()
	var out bytes.Buffer // read after the SDK's goroutine has ended
	logger := telemetry.NewLogger(&out, "info", "json")
	ctx, stop, err := telemetry.StartTracing(t.Context(), telemetry.Tracing{Endpoint: c.Endpoint(), Service: "x", Sampler: "always_on"}, logger)
	require.NoError(t, err)
	for range 10_000 { // more than are kept
		_, span := telemetry.StartSpan(ctx, trace.SpanKindServer, "x")
		span.End()
	}
	require.NoError(t, stop(t.Context()))
	require.Equal(t, 1, strings.Count(out.String(), "spans are not sent"), out.String())
}
