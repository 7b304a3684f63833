package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
)

const checkTimeout = 2 * time.Second

// Check tells whether one dependency can be used right now.
type Check func(ctx context.Context) error

// Health answers /livez and /readyz.
type Health struct {
	checks   map[string]Check
	draining atomic.Bool
	drained  chan struct{} // closed by Drain
}

// NewHealth makes a Health over named checks. Liveness never depends on them: a restart does not mend somebody else's outage.
func NewHealth(checks map[string]Check) *Health {
	return &Health{checks: checks, drained: make(chan struct{})}
}

// Drain makes the role not ready, so that no new work is sent to it while it finishes what it has.
func (h *Health) Drain() {
	if h.draining.CompareAndSwap(false, true) {
		close(h.drained)
	}
}

// Draining is closed by Drain: what would go on for long should end.
func (h *Health) Draining() <-chan struct{} { return h.drained }

// Live answers 200 as long as the process can answer at all.
func (h *Health) Live(w http.ResponseWriter, _ *http.Request) {
	respond(w, http.StatusOK, map[string]any{"status": "ok"})
}

// Ready answers 200 when every check passes, else 503; the body names each check and what it found.
func (h *Health) Ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	results := make(map[string]string, len(h.checks))
	found := make([]error, 0, len(h.checks))
	names := make([]string, 0, len(h.checks))
	for name := range h.checks {
		names, found = append(names, name), append(found, nil)
	}
	var group errgroup.Group
	for i, name := range names {
		group.Go(func() error {
			found[i] = h.checks[name](ctx)
			return nil
		})
	}
	_ = group.Wait() // the checks' errors are in found
	status, code := "ok", http.StatusOK
	for i, name := range names {
		results[name] = "ok"
		if found[i] != nil {
			results[name] = found[i].Error()
			status, code = "not ready", http.StatusServiceUnavailable
		}
	}
	if h.draining.Load() {
		status, code = "draining", http.StatusServiceUnavailable
	}
	respond(w, code, map[string]any{"status": status, "checks": results})
}

func respond(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client is gone: nobody to tell
}

// NewRegistry makes a metrics registry with the Go runtime's and the process's own figures.
func NewRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// ServeOps answers /livez, /readyz and /metrics on addr until ctx is done. It returns an error when the address can't be listened on.
func ServeOps(ctx context.Context, addr string, health *Health, registry *prometheus.Registry, logger *slog.Logger) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", health.Live)
	mux.HandleFunc("GET /readyz", health.Ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for probes and metrics (OPS_ADDR): %w", err)
	}
	logger.InfoContext(ctx, "serving probes and metrics", "address", listener.Addr().String())
	stop := context.AfterFunc(ctx, func() {
		timeout, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = server.Shutdown(timeout) // probes and scrapes need no drain
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve probes and metrics: %w", err)
	}
	return nil
}
