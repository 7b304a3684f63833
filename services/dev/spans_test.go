package dev_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/atlas-platform/atlas/internal/telemetry"
	"github.com/atlas-platform/atlas/internal/telemetry/telemetrytest"
)

// TestOneTraceFromTheRequestToItsEffects: what a request causes in other processes is told under the request's span.
func TestOneTraceFromTheRequestToItsEffects(t *testing.T) {
	t.Parallel()
	collector := telemetrytest.NewCollector(t)
	ctx, flush, err := telemetry.StartTracing(t.Context(), telemetry.Tracing{
		Endpoint: collector.Endpoint(), Service: "atlas-dev", Sampler: "parentbased_always_off",
	}, slog.Default())
	require.NoError(t, err)
	ctx, stop := context.WithCancel(ctx)
	vars, ended := start(ctx, t, folder(t))

	const trace, callers = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	post := func(path, token string, body any) map[string]any {
		content, err := json.Marshal(body)
		require.NoError(t, err)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, vars["ATLAS_URL"]+path, strings.NewReader(string(content)))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
			request.Header.Set("Traceparent", "00-"+trace+"-"+callers+"-01")
		}
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		answer := map[string]any{}
		require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
		require.Less(t, response.StatusCode, 300, "%v", answer)
		return answer
	}
	login := post("/v1/auth/login", "", map[string]string{"email": "admin@atlas.local", "password": vars["ATLAS_ADMIN_PASSWORD"]})
	token := fmt.Sprint(login["access_token"])
	collection := post("/v1/collections", token, map[string]string{"name": "c"})
	post("/v1/jobs", token, map[string]any{"type": "export", "parameters": map[string]any{"collection_id": collection["id"]}})

	var spans map[string]*tracepb.Span
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		spans = map[string]*tracepb.Span{}
		for _, span := range collector.Spans() {
			name := span.GetName()
			for _, a := range span.GetAttributes() {
				if a.GetKey() == "messaging.consumer.group.name" {
					name += " by " + a.GetValue().GetStringValue()
				}
			}
			spans[name] = span
		}
		for _, name := range []string{
			"POST /v1/collections", "POST /v1/jobs", "job export", "send atlas.domain-events.v1",
			"process atlas.domain-events.v1 by atlas-audit", "process atlas.domain-events.v1 by atlas-indexer",
		} {
			require.Contains(c, spans, name)
		}
	}, time.Minute, 100*time.Millisecond)
	stop()
	require.NoError(t, <-ended)
	require.NoError(t, flush(t.Context()))

	require.NotContains(t, spans, "POST /v1/auth/login", "nobody asked for its trace")
	for name, span := range spans {
		require.Equal(t, trace, fmt.Sprintf("%x", span.GetTraceId()), name)
		if strings.HasPrefix(name, "POST ") {
			require.Equal(t, callers, fmt.Sprintf("%x", span.GetParentSpanId()), name)
		} else {
			require.NotEqual(t, callers, fmt.Sprintf("%x", span.GetParentSpanId()), name)
		}
	}
	require.Equal(t, spans["POST /v1/jobs"].GetSpanId(), spans["job export"].GetParentSpanId())
}
