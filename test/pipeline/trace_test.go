package pipeline

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
)

// TestOneTraceFromTheRequestToEverythingItCaused follows a traceparent through the outbox, the topic, the audit trail, the indexer's log, the job that
// the request queued, the worker's log and the job's own events.
func TestOneTraceFromTheRequestToEverythingItCaused(t *testing.T) {
	t.Parallel()
	p := start(t)
	ada := p.person("ada")
	collection := p.must(ada, "POST", "/v1/collections", object{"name": "c"})
	const item, job = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"
	sent := func(trace string) string { return "00-" + trace + "-00f067aa0ba902b7-01" }
	itemID := p.must(ada, "POST", "/v1/items", object{"collection_id": collection, "title": "t", "content": "x"}, "traceparent", sent(item))
	jobID := p.must(ada, "POST", "/v1/jobs", object{"type": "reindex", "parameters": object{"collection_id": collection}}, "traceparent", sent(job))
	p.settled()

	var messages int
	for id, trace := range map[string]string{itemID: item, jobID: job} {
		rows, err := p.pool.Query(t.Context(), `SELECT o.payload->>'event_type', o.payload->>'trace_id', o.traceparent, a.trace_id, a.traceparent
			FROM outbox o JOIN audit_events a USING (event_id) WHERE o.aggregate_id = $1`, id)
		require.NoError(t, err)
		for rows.Next() {
			var eventType string
			var written, parent, recorded, recordedParent *string
			require.NoError(t, rows.Scan(&eventType, &written, &parent, &recorded, &recordedParent))
			require.Equal(t, trace, *written, eventType)
			require.Regexp(t, "^00-"+trace+"-[0-9a-f]{16}-01$", *parent, eventType)
			require.Equal(t, trace, *recorded, eventType)
			require.Equal(t, *parent, *recordedParent, eventType)
			messages++
		}
		require.NoError(t, rows.Err())
	}
	require.Equal(t, 1+3, messages, "ItemCreated; JobCreated and its two JobUpdated")

	total := int(p.count(p.pool, "SELECT count(*) FROM outbox"))
	seen := map[event.Type]int{}
	for _, msg := range kafkatest.Read(t, p.events.Brokers, p.events.Topic, total) {
		trace := map[string]string{itemID: item, jobID: job}[string(msg.Key)]
		if trace == "" {
			continue
		}
		requireTrace(t, msg, trace)
		seen[event.Type(kafkatest.Header(msg, kafka.HeaderEventType))]++
	}
	require.Equal(t, map[event.Type]int{event.ItemCreated: 1, event.JobCreated: 1, event.JobUpdated: 2}, seen)

	line := p.logs.find("item brought up to date in the index", func(line map[string]any) bool { return line["item_id"] == itemID })
	require.NotNil(t, line)
	require.Equal(t, item, line["trace_id"])
	for _, message := range []string{"job started", "job attempt ended"} {
		var line map[string]any
		require.Eventually(t, func() bool {
			line = p.logs.find(message, func(line map[string]any) bool { return line["job_id"] == jobID })
			return line != nil
		}, patience, 10*time.Millisecond)
		require.Equal(t, job, line["trace_id"])
	}
}

func requireTrace(t *testing.T, msg *sarama.ConsumerMessage, trace string) {
	t.Helper()
	require.Regexp(t, "^00-"+trace+"-[0-9a-f]{16}-01$", kafkatest.Header(msg, kafka.HeaderTraceparent))
	e, err := event.Decode(msg.Value)
	require.NoError(t, err)
	require.Equal(t, trace, *e.TraceID)
}
