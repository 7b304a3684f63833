package api

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/atlas-platform/atlas/internal/telemetry"
)

var (
	traceparentPattern = regexp.MustCompile(`^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$`)
	requestIDPattern   = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)
)

const (
	zeroTraceID = "00000000000000000000000000000000"
	zeroSpanID  = "0000000000000000"
)

// trace joins the caller's W3C trace or starts one. Without a traceparent, an X-Request-Id that the caller chose is the trace_id of logs,
// events and problems. The answer's
// X-Request-Id says what to look for, its traceparent where the caller's trace goes on.
func trace(c *gin.Context) {
	requestID := c.GetHeader("X-Request-Id")
	if !requestIDPattern.MatchString(requestID) {
		requestID = ""
	}
	traceID, flags := "", "00"
	if parts := traceparentPattern.FindStringSubmatch(c.GetHeader("traceparent")); validTraceparent(parts) {
		traceID, flags = parts[1], parts[3]
	}
	ctx, t, span := c.Request.Context(), telemetry.Trace{ID: traceID}, telemetry.Span{}
	if telemetry.TracesSpans(ctx) {
		if traceID != "" {
			t.Parent = c.GetHeader("traceparent")
		}
		ctx, span = telemetry.StartSpan(telemetry.WithTrace(ctx, t), oteltrace.SpanKindServer, c.Request.Method)
		t = telemetry.TraceFrom(ctx)
	} else {
		t.ID = cmp.Or(traceID, randomHex(16))
		t.Parent = "00-" + t.ID + "-" + randomHex(8) + "-" + flags
	}
	if traceID == "" && requestID != "" {
		t.ID = requestID
	}
	if requestID == "" {
		requestID = t.ID
	}
	c.Header("X-Request-Id", requestID)
	c.Header("traceparent", t.Parent)
	c.Request = c.Request.WithContext(telemetry.WithTrace(ctx, t))
	defer endSpan(c, span, requestID)
	c.Next()
}

// endSpan ends a request's span. Queries are left out: what people search for is theirs.
func endSpan(c *gin.Context, span telemetry.Span, requestID string) {
	if span == (telemetry.Span{}) {
		return
	}
	route, status := cmp.Or(c.FullPath(), "unmatched"), c.Writer.Status()
	span.Describe(c.Request.Method+" "+route, attribute.String("http.request.method", c.Request.Method), attribute.String("http.route", route),
		attribute.Int("http.response.status_code", status), attribute.String("atlas.request_id", requestID))
	if status >= http.StatusInternalServerError {
		span.Fail(http.StatusText(status))
	}
	span.End()
}

func validTraceparent(parts []string) bool {
	if parts == nil || parts[1] == zeroTraceID || parts[2] == zeroSpanID || strings.HasPrefix(parts[0], "ff") {
		return false
	}
	return !strings.HasPrefix(parts[0], "00") || parts[4] == "" // version 00 ends after the flags
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails: it ends the program instead
	return hex.EncodeToString(b)
}

// observer measures and logs requests.
type observer struct {
	logger   *slog.Logger
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newObserver(logger *slog.Logger, registry prometheus.Registerer) (*observer, error) {
	o := &observer{
		logger: logger,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atlas_http_requests_total", Help: "Requests answered, by method, route and status.",
		}, []string{"method", "route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "atlas_http_request_duration_seconds", Help: "Time from the request's header to the end of the answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"method", "route"}),
	}
	for _, collector := range []prometheus.Collector{o.requests, o.duration} {
		if err := registry.Register(collector); err != nil {
			return nil, fmt.Errorf("register the API's metrics: %w", err)
		}
	}
	return o, nil
}

func (o *observer) middleware(c *gin.Context) {
	start := time.Now()
	c.Next()
	took := time.Since(start)
	route, method := c.FullPath(), c.Request.Method
	if route == "" { // bounded labels: any path and any method may be asked for
		route = "unmatched"
		if method != http.MethodGet && method != http.MethodPost {
			method = "other"
		}
	}
	status := c.Writer.Status()
	o.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	o.duration.WithLabelValues(method, route).Observe(took.Seconds())
	level := slog.LevelDebug
	if status >= http.StatusBadRequest {
		level = slog.LevelInfo // a problem names its trace_id, which the logs must know
	}
	o.logger.LogAttrs(c.Request.Context(), level, "request answered", slog.String("method", method), slog.String("route", route),
		slog.Int("status", status), slog.Duration("duration", took))
}
