package api

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// lingerServer is a server that drains as the API does.
func lingerServer(t *testing.T, leaving <-chan struct{}) (address string, drain func()) {
	t.Helper()
	clients := &lingering{leaving: leaving, next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})}
	server := &http.Server{Handler: clients, ConnState: clients.count, ReadHeaderTimeout: time.Minute}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	return listener.Addr().String(), func() {
		clients.wait(context.Background(), 10*time.Second)
		require.NoError(t, server.Shutdown(context.Background()))
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	}
}

// TestNoRequestFailsWhileClientsAreLetGo has many clients on kept connections go from one server to another, as a Service leads new connections elsewhere.
func TestNoRequestFailsWhileClientsAreLetGo(t *testing.T) {
	t.Parallel()
	const clients, before, after = 32, 20, 20
	leaving := make(chan struct{})
	old, drain := lingerServer(t, leaving)
	next, end := lingerServer(t, nil)
	transport := &http.Transport{
		MaxIdleConnsPerHost: clients,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			address := old
			select {
			case <-leaving:
				address = next
			default:
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
	client := &http.Client{Transport: transport}
	var busy, running sync.WaitGroup
	var failed atomic.Pointer[error]
	busy.Add(clients)
	for range clients {
		running.Go(func() {
			for i := 0; i < before+after; i++ {
				if i == before {
					busy.Done()
					<-leaving
				}
				if err := echo(client); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	busy.Wait()
	close(leaving)
	drain()
	running.Wait()
	transport.CloseIdleConnections()
	end()
	if err := failed.Load(); err != nil {
		require.NoError(t, *err)
	}
}

// echo makes a request that nobody repeats.
func echo(client *http.Client) error {
	request, err := http.NewRequest(http.MethodPost, "http://api/", io.NopCloser(strings.NewReader("hello")))
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

// TestWaitForClientsEnds does not wait for a client that stays.
func TestWaitForClientsEnds(t *testing.T) {
	t.Parallel()
	l := &lingering{}
	l.count(nil, http.StateNew)
	l.wait(t.Context(), time.Millisecond)
	l.count(nil, http.StateClosed)
	l.wait(t.Context(), time.Hour)
}
