// Package telemetry gives every role its logger, the trace that follows one request through logs and events, and the operations server
// with probes and metrics.
package telemetry

import (
	"context"
	"io"
	"log/slog"
	"strings"
)

// NewLogger makes a logger. level is one of debug, info, warn, error; format is json or text. Records logged with a context that carries a
// Trace have its trace_id.
func NewLogger(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: l}
	var handler slog.Handler = slog.NewJSONHandler(w, options)
	if strings.EqualFold(format, "text") {
		handler = slog.NewTextHandler(w, options)
	}
	return slog.New(traceHandler{handler})
}

// Trace correlates everything that one request causes.
type Trace struct {
	// ID is the 32 hex digits of a W3C trace id, or the request id that the caller chose.
	ID string
	// Parent is a W3C traceparent to pass on; empty when there is none.
	Parent string
}

type traceKey struct{}

// WithTrace returns a context that carries the trace.
func WithTrace(ctx context.Context, t Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// TraceFrom returns the context's trace; its ID is empty when there is none.
func TraceFrom(ctx context.Context) Trace {
	t, _ := ctx.Value(traceKey{}).(Trace)
	return t
}

type traceHandler struct{ slog.Handler }

func (h traceHandler) Handle(ctx context.Context, r slog.Record) error {
	if t := TraceFrom(ctx); t.ID != "" {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", t.ID))
	}
	return h.Handler.Handle(ctx, r)
}

func (h traceHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return traceHandler{h.Handler.WithAttrs(attrs)}
}

func (h traceHandler) WithGroup(name string) slog.Handler {
	return traceHandler{h.Handler.WithGroup(name)}
}
