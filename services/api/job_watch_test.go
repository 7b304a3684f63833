package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// streamPatience is how long a test waits for what must come.
const streamPatience = 2 * time.Minute

// sent is a server-sent event.
type sent struct {
	id, name string
	job      map[string]any
}

// listener is a caller that listens to a stream.
type listener struct {
	t        *testing.T
	response *http.Response
	lines    *bufio.Scanner
	hangUp   context.CancelFunc
}

// listen opens a stream over a connection of its own.
func (b *testBundle) listen(user *account, job string, options ...option) *listener {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), streamPatience)
	b.t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.server.URL+"/v1/jobs/"+job+"/events", nil)
	require.NoError(b.t, err)
	request.Header.Set("Authorization", "Bearer "+user.token)
	request.Header.Set("Accept", "text/event-stream")
	for _, option := range options {
		option(request)
	}
	response, err := b.server.Client().Do(request)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = response.Body.Close() })
	return &listener{t: b.t, response: response, lines: bufio.NewScanner(response.Body), hangUp: cancel}
}

// next returns the next event; false when the stream has ended as it should.
func (l *listener) next() (sent, bool) {
	l.t.Helper()
	var e sent
	for l.lines.Scan() {
		field, value, _ := strings.Cut(l.lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			e.id = value
		case "event":
			e.name = value
		case "data":
			require.NoError(l.t, json.Unmarshal([]byte(value), &e.job))
		case "":
			if l.lines.Text() == "" && e.name != "" {
				return e, true
			}
		}
	}
	require.NoError(l.t, l.lines.Err())
	return e, false
}

func (l *listener) event(name, id string) map[string]any {
	l.t.Helper()
	e, more := l.next()
	require.True(l.t, more, "the stream has ended")
	require.Equal(l.t, name, e.name)
	require.Equal(l.t, id, e.id)
	return e.job
}

func (l *listener) ends() {
	l.t.Helper()
	e, more := l.next()
	require.False(l.t, more, "%v", e)
}

func TestAStreamTellsOfAJobUntilItIsFinished(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	id := b.call(ada, "POST", "/v1/jobs", reindex(b.collection(ada, "c"))).is(202).id()
	l := b.listen(ada, id, header("Accept-Encoding", "gzip, zstd"))
	require.Equal(t, 200, l.response.StatusCode)
	require.Equal(t, "text/event-stream", l.response.Header.Get("Content-Type"))
	require.Empty(t, l.response.Header.Get("Content-Encoding"))
	require.Equal(t, "QUEUED", l.event("state", "1")["state"])
	b.changeJob(id, "state = 'RUNNING', attempt = 1")
	require.Equal(t, "RUNNING", l.event("state", "2")["state"])
	b.changeJob(id, "progress_done = 5, progress_total = 9, progress_message = 'half'")
	require.Equal(t, map[string]any{"done": 5.0, "total": 9.0, "message": "half"}, l.event("progress", "3")["progress"])
	b.call(ada, "POST", "/v1/jobs/"+id+"/cancel", nil).is(202)
	require.Equal(t, true, l.event("state", "4")["cancel_requested"])

	resumed := b.listen(ada, id, header("Last-Event-ID", "4")) // which is what it has
	late := b.listen(ada, id, header("Last-Event-ID", "3"))
	require.Equal(t, true, late.event("state", "4")["cancel_requested"])
	b.changeJob(id, "state = 'CANCELLED', finished_at = now()")
	for _, each := range []*listener{l, resumed, late} {
		require.Equal(t, "CANCELLED", each.event("end", "5")["state"])
		each.ends()
	}
	require.Equal(t, "CANCELLED", b.listen(ada, id).event("end", "5")["state"])
	b.call(ada, "GET", "/v1/jobs/"+id+"/events", nil, header("Last-Event-ID", "5")).is(204)
	b.call(ada, "GET", "/v1/jobs/"+id+"/events", nil, header("Last-Event-ID", "the last")).problem(400, "invalid-request", "Last-Event-ID")
	b.call(ada, "GET", "/v1/jobs/"+id+"/events", nil, header("Last-Event-ID", "9999999999999999999")).problem(400, "invalid-request", "Last-Event-ID")
	b.call(ada, "GET", "/v1/jobs/"+id+"/events", nil, header("Accept", "application/json")).problem(406, "not-acceptable")
	require.Empty(t, b.call(ada, "HEAD", "/v1/jobs/"+id+"/events", nil).is(200).raw)
}

func TestAStreamEndsWithTheRights(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(b *testBundle, ada, eve *account, c string){
		"the role": func(b *testBundle, ada, eve *account, c string) {
			b.call(ada, "PATCH", "/v1/collections/"+c+"/members/"+eve.id, map[string]any{"role": "viewer"}).is(200)
		},
		"the membership": func(b *testBundle, ada, eve *account, c string) {
			b.call(ada, "DELETE", "/v1/collections/"+c+"/members/"+eve.id, nil).is(204)
		},
		"the collection": func(b *testBundle, ada, _ *account, c string) {
			b.call(ada, "DELETE", "/v1/collections/"+c, nil).is(204)
		},
		"the account": func(b *testBundle, _, eve *account, _ string) {
			_, err := b.pool.Exec(b.t.Context(), "UPDATE users SET disabled_at = now() WHERE id = $1", eve.id)
			require.NoError(b.t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			ada, eve, operator := b.account("ada"), b.account("eve"), b.operator()
			c := b.collection(ada, "c")
			b.member(ada, c, eve, "editor")
			id := b.job(ada, c, "RUNNING")
			l, trusted := b.listen(eve, id), b.listen(operator, id)
			l.event("state", "2")
			trusted.event("state", "2")
			change(b, ada, eve, c)
			l.ends()
			b.changeJob(id, "progress_done = 1")
			trusted.event("progress", "3")
			trusted.hangUp()
		})
	}
}

func TestADrainEndsStreams(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	id := b.job(ada, b.collection(ada, "c"), "RUNNING")
	l := b.listen(ada, id)
	l.event("state", "2")
	b.health.Drain()
	l.ends() // without an error: the body is complete
}

// looks counts the questions about jobs that are watched.
type looks struct{ n atomic.Int64 }

func (l *looks) TraceQueryStart(ctx context.Context, _ *pgx.Conn, query pgx.TraceQueryStartData) context.Context {
	if strings.Contains(query.SQL, "WatchedJobs") {
		l.n.Add(1)
	}
	return ctx
}

func (*looks) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestManyWatchersAskOneQuestion: as many as there are streams would be 40 in each step.
func TestManyWatchersAskOneQuestion(t *testing.T) {
	t.Parallel()
	counter := &looks{}
	cfg := setup(t).pool.Config()
	cfg.ConnConfig.Tracer = counter
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	b := setupWith(t, pool, nil)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	const many = 40
	listeners := make([]*listener, many)
	for i := range many {
		listeners[i] = b.listen(ada, b.job(ada, c, "RUNNING"))
		listeners[i].event("state", "2")
	}
	before, started := counter.n.Load(), time.Now()
	for progress := range 3 {
		_, err := pool.Exec(t.Context(), "UPDATE jobs SET version = version + 1, progress_done = $1", progress)
		require.NoError(t, err)
		for _, l := range listeners {
			e, more := l.next()
			require.True(t, more)
			require.Equal(t, "progress", e.name)
		}
	}
	steps := int64(time.Since(started)/(250*time.Millisecond)) + 2
	require.LessOrEqual(t, counter.n.Load()-before, 3*steps, "in %d steps", steps)
}
