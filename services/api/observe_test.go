package api_test

import (
	"bytes"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/telemetry"
	"github.com/atlas-platform/atlas/services/api"
)

// TestTraceIDIsInTheLogs looks for the trace_id of problems in what the default level logs. What a caller wrote is not in there.
func TestTraceIDIsInTheLogs(t *testing.T) {
	t.Parallel()
	var logs bytes.Buffer
	b := setupDeps(t, nil, nil, func(deps *api.Deps) { deps.Logger = telemetry.NewLogger(&logs, "info", "json") })
	ada, missing := b.account("ada"), uuid.NewString()
	var traces []string
	for _, a := range []answer{
		b.call(ada, "GET", "/v1/items/"+missing, nil).problem(404, "not-found"),
		b.call(ada, "GET", "/v1/items?tag=secret&limit=0", nil).problem(400, "invalid-request"),
		b.call(nil, "GET", "/v1/items", nil).problem(401, "unauthenticated"),
		b.call(ada, "POST", "/v1/collections", map[string]any{"name": ""}).problem(422, "validation"),
	} {
		trace, _ := a.body["trace_id"].(string)
		traces = append(traces, trace)
	}
	fine := b.call(ada, "GET", "/v1/items", nil, header("X-Request-Id", "all-is-well"))
	require.Equal(t, 200, fine.status)
	b.server.Close() // every answer is logged then
	for _, trace := range traces {
		require.Len(t, trace, 32)
		require.Contains(t, logs.String(), trace)
	}
	require.Contains(t, logs.String(), `"msg":"request answered"`)
	for _, private := range []string{missing, "secret", "all-is-well"} {
		require.NotContains(t, logs.String(), private)
	}
}
