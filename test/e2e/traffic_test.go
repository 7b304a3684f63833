package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/client"
)

const (
	requestTimeout = 20 * time.Second
	// pace is the pause of a client of the ordinary traffic between two requests.
	pace = 100 * time.Millisecond
	// rounds is how many requests a client makes before it signs in again.
	rounds = 40
)

// failure is a request that was not answered as it should have been.
type failure struct {
	at        time.Time
	phase, of string
	err       error
}

func (f failure) String() string {
	return fmt.Sprintf("%s %s: %s: %v", f.at.Format("15:04:05.000"), f.phase, f.of, f.err)
}

// traffic are clients that write and read without pause. None of them repeats a request: whatever fails is counted, even what net/http would hide by sending a
// request again over another connection.
type traffic struct {
	url             string
	email, password string
	stop            context.CancelFunc
	running         sync.WaitGroup
	// ticks is how many times its pace a client waits between two requests.
	ticks atomic.Int64

	mu       sync.Mutex
	phase    string
	requests map[string]int
	failures []failure
	slowest  time.Duration
}

// caller is one client of it.
type caller struct {
	*traffic
	http              *http.Client
	ticker            *time.Ticker
	done              <-chan struct{}
	token, collection string
}

// newTraffic signs a user up.
func newTraffic(t *testing.T, url string) *traffic {
	t.Helper()
	tr := &traffic{
		url: url, email: "e2e-" + uuid.NewString() + "@example.com", password: uuid.NewString(), phase: "start", requests: map[string]int{},
	}
	tr.ticks.Store(1)
	e := &env{apiURL: url}
	answer, err := e.client(t, "").RegisterWithResponse(t.Context(), client.RegisterRequest{Email: tr.email, Password: tr.password})
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, answer.StatusCode(), string(answer.Body))
	return tr
}

// begin starts the ordinary traffic: clients that keep their connections, one that opens a connection for each request, and one that keeps its first token.
func (tr *traffic) begin(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	tr.stop = cancel
	for range 2 {
		tr.start(ctx, &http.Transport{}, pace, rounds)
	}
	tr.start(ctx, &http.Transport{DisableKeepAlives: true}, pace, rounds)
	tr.start(ctx, &http.Transport{}, pace, 0)
}

// burden adds clients that make one request after the other, until the returned function is called. An account may try ten passwords at the same time, so there can't
// be many.
func (tr *traffic) burden(t *testing.T, clients int) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	for range clients {
		tr.start(ctx, &http.Transport{}, time.Millisecond, 5) // to sign in costs the most
	}
	return cancel
}

// slow makes the traffic so many times slower.
func (tr *traffic) slow(times int64) { tr.ticks.Store(times) }

// end lets the requests that are under way come to their end.
func (tr *traffic) end() {
	if tr.stop != nil {
		tr.stop()
	}
	tr.running.Wait()
}

// start runs one client until ctx ends. It signs in again after so many rounds; with 0 it keeps its first token.
func (tr *traffic) start(ctx context.Context, transport *http.Transport, pace time.Duration, rounds int) {
	tr.running.Go(func() {
		defer transport.CloseIdleConnections()
		c := &caller{traffic: tr, http: &http.Client{Transport: transport, Timeout: requestTimeout}, ticker: time.NewTicker(pace), done: ctx.Done()}
		defer c.ticker.Stop()
		for c.next() {
			if !c.signIn() {
				continue
			}
			for round := 0; rounds == 0 || round < rounds; round++ {
				if !c.next() {
					return
				}
				c.work()
			}
		}
	})
}

// next waits for its time; it is false when the traffic ends.
func (c *caller) next() bool {
	for waited := int64(0); waited < c.ticks.Load(); waited++ {
		select {
		case <-c.done:
			return false
		case <-c.ticker.C:
		}
	}
	return true
}

func (c *caller) signIn() bool {
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	c.token = ""
	ok := c.ask("sign in", http.MethodPost, "/v1/auth/login", map[string]string{"email": c.email, "password": c.password}, http.StatusOK, &answer)
	c.token = answer.AccessToken
	return ok
}

// work is the life of an item: made, read, changed, searched for and removed. Nobody else knows it, so each request has one right answer.
func (c *caller) work() {
	if c.collection == "" {
		var made struct {
			ID string `json:"id"`
		}
		if !c.ask("create a collection", http.MethodPost, "/v1/collections", map[string]string{"name": "traffic " + uuid.NewString()}, http.StatusCreated, &made) {
			return
		}
		c.collection = made.ID
	}
	var item struct {
		ID    string `json:"id"`
		Title string `json:"title"`
	}
	fields := map[string]string{"collection_id": c.collection, "title": "first", "content": "written under way"}
	if !c.next() || !c.ask("create an item", http.MethodPost, "/v1/items", fields, http.StatusCreated, &item) {
		return
	}
	path := "/v1/items/" + item.ID
	for _, step := range []struct {
		what, method, path string
		body               any
		want               int
	}{
		{"read an item", http.MethodGet, path, nil, http.StatusOK},
		{"change an item", http.MethodPatch, path, map[string]string{"title": "second"}, http.StatusOK},
		{"list items", http.MethodGet, "/v1/items?collection_id=" + c.collection, nil, http.StatusOK},
		{"search", http.MethodGet, "/v1/search?q=written", nil, http.StatusOK},
		{"delete an item", http.MethodDelete, path, nil, http.StatusNoContent},
	} {
		if !c.next() || !c.ask(step.what, step.method, step.path, step.body, step.want, nil) {
			return
		}
	}
}

// ask makes a request and notes what came of it. It is false when that was not what was wanted.
func (c *caller) ask(what, method, path string, body any, want int, into any) bool {
	c.mu.Lock()
	phase := c.phase
	c.mu.Unlock()
	start := time.Now()
	err := c.exchange(method, path, body, want, into)
	took := time.Since(start)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[phase]++
	c.slowest = max(c.slowest, took)
	if err != nil {
		c.failures = append(c.failures, failure{at: start, phase: phase, of: what, err: fmt.Errorf("after %s: %w", took.Round(time.Millisecond), err)})
	}
	return err == nil
}

func (c *caller) exchange(method, path string, body any, want int, into any) error {
	connections := 0
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connections++ }})
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, content)
	if err != nil {
		return err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return fmt.Errorf("read the answer: %w", err)
	case answer.StatusCode != want:
		return fmt.Errorf("HTTP %d, not %d: %s", answer.StatusCode, want, got)
	case connections > 1:
		return errors.New("net/http sent it again: the server had closed the connection")
	case into != nil:
		return json.Unmarshal(got, into)
	}
	return nil
}

// enter names what the cluster goes through from now on.
func (tr *traffic) enter(phase string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.phase = phase
}

// check fails the test when a request of a phase failed, or when there were none at all.
func (tr *traffic) check(t *testing.T, phase string) {
	t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	var failed strings.Builder
	for _, f := range tr.failures {
		fmt.Fprintln(&failed, f)
	}
	t.Logf("%s: %d requests, %d failures in all so far, the slowest request took %s", phase, tr.requests[phase], len(tr.failures), tr.slowest.Round(time.Millisecond))
	require.NotZero(t, tr.requests[phase], "there was no traffic")
	require.Empty(t, tr.failures, "requests failed:\n%s", failed.String())
}

func (tr *traffic) total() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	sum := 0
	for _, n := range tr.requests {
		sum += n
	}
	return sum
}
