package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/telemetry"
)

func TestRunInOrderStopsTheFirstPartFirst(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var order []string
	part := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			<-ctx.Done()
			order = append(order, name) // no lock: the race detector proves that one part ends before the next is stopped
			return nil
		}
	}
	cancel()
	require.NoError(t, telemetry.RunInOrder(ctx, time.Minute, part("api"), part("relay"), part("ops")))
	require.Equal(t, []string{"api", "relay", "ops"}, order)
}

func TestRunInOrderStopsEverythingWhenAPartFails(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	stopped := false
	err := telemetry.RunInOrder(t.Context(), time.Minute,
		func(ctx context.Context) error { <-ctx.Done(); stopped = true; return nil },
		func(context.Context) error { return boom })
	require.ErrorIs(t, err, boom)
	require.True(t, stopped)
}

func TestRunInOrderAbandonsAPartThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	never := make(chan struct{})
	defer close(never)
	boom := errors.New("boom")
	err := telemetry.RunInOrder(ctx, 10*time.Millisecond,
		func(context.Context) error { return boom },
		func(context.Context) error { <-never; return nil })
	require.ErrorIs(t, err, telemetry.ErrDrain)
	require.ErrorIs(t, err, boom)
}

func TestReadyNamesTheCheckThatFails(t *testing.T) {
	t.Parallel()
	health := telemetry.NewHealth(map[string]telemetry.Check{
		"database": func(context.Context) error { return errors.New("connection refused") },
		"kafka":    func(context.Context) error { return nil },
	})
	answer := httptest.NewRecorder()
	health.Ready(answer, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	require.Equal(t, http.StatusServiceUnavailable, answer.Code)
	require.JSONEq(t, `{"status":"not ready","checks":{"database":"connection refused","kafka":"ok"}}`, answer.Body.String())
}

func TestDrainMakesARoleNotReadyButLive(t *testing.T) {
	t.Parallel()
	health := telemetry.NewHealth(nil)
	health.Drain()
	ready, live := httptest.NewRecorder(), httptest.NewRecorder()
	health.Ready(ready, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	health.Live(live, httptest.NewRequest(http.MethodGet, "/livez", nil))
	require.Equal(t, http.StatusServiceUnavailable, ready.Code)
	require.Equal(t, http.StatusOK, live.Code)
}

func TestLoggerAddsTheTrace(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	ctx := telemetry.WithTrace(t.Context(), telemetry.Trace{ID: "abc"})
	telemetry.NewLogger(&out, "info", "json").With("role", "api").InfoContext(ctx, "hello")
	require.Contains(t, out.String(), `"trace_id":"abc"`)
}
