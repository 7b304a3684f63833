// Package telemetrytest takes spans as a collector does, for tests.
package telemetrytest

import (
	"compress/gzip"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Collector takes OTLP over HTTP under /base, and keeps the spans.
type Collector struct {
	server *httptest.Server

	mu        sync.Mutex
	spans     []*tracepb.Span
	resources map[string]string
}

// NewCollector starts a collector, which ends with the test.
func NewCollector(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{resources: map[string]string{}}
	c.server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

// Endpoint is what OTEL_EXPORTER_OTLP_ENDPOINT has to be.
func (c *Collector) Endpoint() string { return c.server.URL + "/base" }

// Close ends the collector.
func (c *Collector) Close() { c.server.Close() }

// Spans are the spans that came so far.
func (c *Collector) Spans() []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Resource are the attributes of the processes that sent spans.
func (c *Collector) Resource() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.resources)
}

// ServeHTTP takes one request of an exporter.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request, err := read(r)
	if err != nil || r.URL.Path != "/base/v1/traces" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, group := range request.GetResourceSpans() {
		for _, a := range group.GetResource().GetAttributes() {
			c.resources[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, scope := range group.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
}

func read(r *http.Request) (*collector.ExportTraceServiceRequest, error) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(r.Body); err != nil {
			return nil, err
		}
	}
	content, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	request := &collector.ExportTraceServiceRequest{}
	return request, proto.Unmarshal(content, request)
}
