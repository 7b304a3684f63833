package api

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/atlas-platform/atlas/internal/pause"
)

const (
	// lingerTime is how long clients that keep their connections are given to be told to leave them. It is a part of the shutdown timeout.
	lingerTime  = 3 * time.Second
	lingerCheck = 20 * time.Millisecond
)

// lingering lets a server's clients go. http.Server.Shutdown closes a connection between two requests at any moment, also in the one in which the next request is on its
// way; a client can't know then whether that was carried out. So first, for some time, each answer tells its client to close the connection and make another, which
// leads elsewhere.
type lingering struct {
	next    http.Handler
	leaving <-chan struct{}
	open    atomic.Int64
}

// ServeHTTP implements http.Handler.
func (l *lingering) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case <-l.leaving:
		w.Header().Set("Connection", "close")
	default:
	}
	l.next.ServeHTTP(w, r)
}

// count follows the connections, as http.Server.ConnState.
func (l *lingering) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		l.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		l.open.Add(-1)
	case http.StateActive, http.StateIdle:
	}
}

// wait returns when no connection is left, or when the time is over.
func (l *lingering) wait(ctx context.Context, atMost time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	for l.open.Load() > 0 && pause.For(ctx, lingerCheck) == nil {
	}
}
