package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/atlas-platform/atlas/internal/telemetry"
)

const (
	defaultShutdownTimeout = 20 * time.Second
	readHeaderTimeout      = 5 * time.Second
	readTimeout            = 30 * time.Second
	writeTimeout           = 60 * time.Second
	idleTimeout            = 2 * time.Minute
	maxHeaderBytes         = 64 << 10
)

// Run answers the REST API until ctx is done, then drains: it becomes not ready first, lets its clients go, lets the requests that it has finish, and returns nil. It
// returns an error when the key or the address can't be used, or when requests are still running after the shutdown timeout.
func Run(ctx context.Context, cfg Config, deps Deps) error {
	handler, err := NewHandler(cfg, deps) //nolint:contextcheck // its handlers use the contexts of their requests
	if err != nil {
		return err
	}
	listener := deps.Listener
	if listener == nil {
		if listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.ListenAddr); err != nil {
			return fmt.Errorf("listen for the REST API (LISTEN_ADDR): %w", err)
		}
	}
	clients := &lingering{next: handler, leaving: ctx.Done()}
	server := &http.Server{
		Handler:           clients,
		ConnState:         clients.count,
		BaseContext:       func(net.Listener) context.Context { return telemetry.CarryTracer(context.Background(), ctx) }, // requests outlive ctx
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(deps.Logger.Handler(), slog.LevelDebug), // broken connections: the client's business
	}
	deps.Logger.InfoContext(ctx, "serving the REST API", "address", listener.Addr().String())
	if deps.Listening != nil {
		deps.Listening(listener.Addr().String())
	}

	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve the REST API: %w", err)
	case <-ctx.Done():
	}
	deps.Health.Drain()
	timeout := deps.ShutdownTimeout
	if timeout <= 0 {
		timeout = defaultShutdownTimeout
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	clients.wait(drain, min(lingerTime, timeout/4))
	err = server.Shutdown(drain)
	if err != nil {
		err = errors.Join(fmt.Errorf("requests were still running after %s: %w", timeout, err), server.Close())
	}
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve the REST API: %w", ended))
	}
	return err
}
