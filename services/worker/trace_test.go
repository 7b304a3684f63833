package worker_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/jobs/jobstest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/tasks"
	"github.com/atlas-platform/atlas/internal/telemetry"
	"github.com/atlas-platform/atlas/services/worker"
)

// record keeps what is logged.
type record struct {
	mu    sync.Mutex
	lines []string
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, string(b))
	return len(b), nil
}

// with returns the lines that have this message.
func (r *record) with(message string) (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.lines {
		if strings.Contains(line, `"msg":"`+message+`"`) {
			out = append(out, line)
		}
	}
	return out
}

func TestAJobsLogsAndEventsBelongToTheRequestThatQueuedIt(t *testing.T) {
	t.Parallel()
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	collection := seed.Collection(t)
	item := seed.Item(t, collection, "one", "")
	id := jobstest.Enqueue(t, seed, tasks.TypePurge, &collection, 3)
	seed.Exec(t, "UPDATE collections SET deleted_at = now() WHERE id = $1", collection)
	seed.Exec(t, "UPDATE jobs SET trace_id = 'the-request', traceparent = $2 WHERE id = $1", id, parent)
	untraced := jobstest.Enqueue(t, seed, tasks.TypePurge, &collection, 3) // queued by the release before

	logs := &record{}
	kafkatest.Start(t, worker.New(worker.Config{Engine: jobstest.Fast()}, worker.Deps{Logger: telemetry.NewLogger(logs, "info", "json"), Pool: pool}).Run)
	jobstest.Becomes(t, pool, id, "SUCCEEDED")
	jobstest.Becomes(t, pool, untraced, "SUCCEEDED")

	rows, err := pool.Query(context.Background(), "SELECT payload, traceparent FROM outbox WHERE aggregate_id IN ($1, $2) ORDER BY id", id, item)
	require.NoError(t, err)
	defer rows.Close()
	types := map[event.Type]int{}
	for rows.Next() {
		var payload json.RawMessage
		var traceparent *string
		require.NoError(t, rows.Scan(&payload, &traceparent))
		e, err := event.Decode(payload)
		require.NoError(t, err)
		types[e.EventType]++
		if e.EventType == event.ItemDeleted && e.TraceID == nil {
			continue // the other job's: whichever came first deleted the item
		}
		require.Equal(t, "the-request", *e.TraceID)
		require.Equal(t, parent, *traceparent)
	}
	require.NoError(t, rows.Err())
	require.Equal(t, map[event.Type]int{event.JobUpdated: 2, event.ItemDeleted: 1}, types)
	require.Eventually(t, func() bool { return len(logs.with("job attempt ended")) == 2 }, jobstest.Patience, time.Millisecond)
	for _, message := range []string{"job started", "job attempt ended"} {
		for _, line := range logs.with(message) {
			require.Equal(t, strings.Contains(line, id.String()), strings.Contains(line, `"trace_id":"the-request"`), line)
		}
	}
}
