//go:build linux

package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/kafka"
)

// settleTimeout is how long everything may take to agree once nothing is broken any more. A job whose worker died waits for its lease.
const settleTimeout = 3 * time.Minute

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// findings are what is wrong; none is what is wanted.
type findings []string

func (f *findings) add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

// first are a few of them.
func (f findings) first(n int) findings { return f[:min(n, len(f))] }

// verify compares everything that there is with everything else, and with what the clients were told.
func verify(p *platformBundle, w *workload, settle time.Duration) findings {
	ctx, cancel := context.WithTimeout(context.Background(), settle+2*time.Minute)
	defer cancel()
	var found findings
	database, err := pgx.Connect(ctx, p.database)
	require.NoError(p.t, err)
	defer database.Close(ctx) //nolint:errcheck // nothing is pending
	v := &verifier{t: p, db: database, found: &found}
	v.settle(ctx, settle)
	v.acknowledged(ctx, w)
	v.traces(ctx, w)
	v.topic(ctx)
	v.index(ctx)
	if out, code := p.command("check", "--deep", "--settle", "2s", "--patience", settle.String()); code != 0 {
		found.add("atlas check exits with %d:\n%s", code, out)
	}
	if out, code := p.command("audit", "verify"); code != 0 {
		found.add("atlas audit verify exits with %d:\n%s", code, out)
	}
	if w.calm && v.repeated > 0 {
		found.add("%d events were published twice although nothing was broken", v.repeated)
	}
	return found
}

type verifier struct {
	t     *platformBundle
	db    *pgx.Conn
	found *findings
	// repeated is how many events were published more than once.
	repeated int
}

func (v *verifier) count(ctx context.Context, query string, args ...any) (n int) {
	require.NoError(v.t.t, v.db.QueryRow(ctx, query, args...).Scan(&n), query)
	return n
}

// behind are the ways in which the pipeline can be behind PostgreSQL.
var behind = map[string]string{
	"events not published": "SELECT count(*) FROM outbox WHERE published_at IS NULL",
	"items not indexed":    "SELECT count(*) FROM items i LEFT JOIN item_index_state s ON s.item_id = i.id WHERE coalesce(s.indexed_version, 0) < i.version",
	"jobs not ended":       "SELECT count(*) FROM jobs WHERE state IN ('QUEUED', 'RUNNING')",
}

// settle waits until nothing is behind.
func (v *verifier) settle(ctx context.Context, limit time.Duration) {
	for end := time.Now().Add(limit); ; {
		var late findings
		for _, what := range sortedKeys(behind) {
			if n := v.count(ctx, behind[what]); n > 0 {
				late.add("%d %s", n, what)
			}
		}
		for _, group := range []string{"audit", "indexer"} {
			if n := v.t.lag(group); n > 0 {
				late.add("%d messages not handled by the %s", n, group)
			}
		}
		if len(late) == 0 {
			return
		}
		if time.Now().After(end) || !rest(ctx, 200*time.Millisecond) {
			*v.found = append(*v.found, late...)
			return
		}
	}
}

// acknowledged looks for what clients were told.
func (v *verifier) acknowledged(ctx context.Context, w *workload) {
	rows, err := v.db.Query(ctx, "SELECT i.id::text, i.version, (i.deleted_at IS NOT NULL OR c.deleted_at IS NOT NULL) FROM items i JOIN collections c ON c.id = i.collection_id")
	require.NoError(v.t.t, err)
	stored := map[string]lastSeen{}
	for rows.Next() {
		var id string
		var item lastSeen
		require.NoError(v.t.t, rows.Scan(&id, &item.version, &item.deleted))
		stored[id] = item
	}
	require.NoError(v.t.t, rows.Err())
	for _, id := range sortedKeys(w.items) {
		seen := w.items[id]
		if item, ok := stored[id]; !ok || item.version < seen.version || (seen.deleted && !item.deleted) {
			v.found.add("a client was told that item %s is %+v; it is %+v", id, seen, item)
		}
	}
}

// traces compares the writes with the audit trail by their traces.
func (v *verifier) traces(ctx context.Context, w *workload) {
	perTrace := map[string]int{}
	rows, err := v.db.Query(ctx, "SELECT trace_id, count(*) FROM audit_events WHERE trace_id IS NOT NULL GROUP BY trace_id")
	require.NoError(v.t.t, err)
	for rows.Next() {
		var trace string
		var n int
		require.NoError(v.t.t, rows.Scan(&trace, &n))
		perTrace[trace] = n
	}
	require.NoError(v.t.t, rows.Err())
	for _, trace := range sortedKeys(w.writes) {
		switch sent := w.writes[trace]; {
		case sent.outcome == refused && perTrace[trace] != 0:
			v.found.add("the refused write %s has %d audit rows", trace, perTrace[trace])
		case sent.outcome == acknowledged && sent.single && perTrace[trace] != 1:
			v.found.add("the acknowledged write %s has %d audit rows", trace, perTrace[trace])
		}
	}
	// Every version of an aggregate is one event, so each has one audit row.
	odd, err := v.db.Query(ctx, `SELECT i.id::text, i.version, coalesce(string_agg(a.event_type || ' ' || (a.data->>'entity_version'), ', ' ORDER BY a.occurred_at), 'none')
		FROM items i LEFT JOIN audit_events a ON a.entity_id = i.id AND a.entity_type = 'Item'
		GROUP BY i.id HAVING count(DISTINCT (a.data->>'entity_version')::bigint) <> i.version OR count(a.event_id) <> i.version`)
	require.NoError(v.t.t, err)
	for odd.Next() {
		var id, events string
		var version int64
		require.NoError(v.t.t, odd.Scan(&id, &version, &events))
		v.found.add("item %s has version %d, the audit trail has: %s", id, version, events)
	}
	require.NoError(v.t.t, odd.Err())
}

// topic reads everything that was published: what the audit trail has, each aggregate's events in the order of their versions. Repetitions are allowed.
func (v *verifier) topic(ctx context.Context) {
	client, err := sarama.NewClient([]string{v.t.servers.KafkaBrokers}, kafka.NewConfig("atlas-faults"))
	require.NoError(v.t.t, err)
	defer client.Close()
	consumer, err := sarama.NewConsumerFromClient(client)
	require.NoError(v.t.t, err)
	defer consumer.Close()
	seen, newest := map[uuid.UUID]bool{}, map[uuid.UUID]int64{}
	for partition := range int32(partitions) {
		v.read(client, consumer, v.t.topic, partition, func(m *sarama.ConsumerMessage) {
			e, err := event.Decode(m.Value)
			if err == nil {
				err = event.Validate(m.Value)
			}
			if err != nil {
				v.found.add("an event in the topic is not valid: %v", err)
				return
			}
			if seen[e.EventID] {
				v.repeated++
				return
			}
			var data struct {
				Version int64 `json:"entity_version"`
			}
			_ = json.Unmarshal(e.Data, &data) // it is valid
			if data.Version <= newest[e.Entity.ID] {
				v.found.add("%s of %s %s: version %d came after %d", e.EventType, e.Entity.Type, e.Entity.ID, data.Version, newest[e.Entity.ID])
			}
			seen[e.EventID], newest[e.Entity.ID] = true, data.Version
		})
	}
	audited, err := v.db.Query(ctx, "SELECT event_id FROM audit_events")
	require.NoError(v.t.t, err)
	ids, err := pgx.CollectRows(audited, pgx.RowTo[uuid.UUID])
	require.NoError(v.t.t, err)
	for _, id := range ids {
		if !seen[id] {
			v.found.add("the audit trail has an event %s that is not in the topic", id)
		}
	}
	if len(ids) != len(seen) {
		v.found.add("the topic has %d events, the audit trail %d", len(seen), len(ids))
	}
	v.read(client, consumer, kafka.DeadLetterTopic(v.t.topic), 0, func(m *sarama.ConsumerMessage) {
		v.found.add("a dead letter at offset %d: %s", m.Offset, m.Value)
	})
}

// lag is how many messages of the topic a group has not committed.
func (p *platformBundle) lag(group string) (behind int64) {
	client, err := sarama.NewClient([]string{p.servers.KafkaBrokers}, kafka.NewConfig("atlas-faults"))
	require.NoError(p.t, err)
	admin, err := sarama.NewClusterAdminFromClient(client)
	require.NoError(p.t, err)
	defer ignore(admin.Close) // and the client
	all := make([]int32, partitions)
	for i := range all {
		all[i] = int32(i)
	}
	committed, err := admin.ListConsumerGroupOffsets(p.group+"-"+group, map[string][]int32{p.topic: all})
	require.NoError(p.t, err)
	for _, partition := range all {
		end, err := client.GetOffset(p.topic, partition, sarama.OffsetNewest)
		require.NoError(p.t, err)
		at := int64(0)
		if block := committed.GetBlock(p.topic, partition); block != nil {
			at = max(block.Offset, 0)
		}
		behind += end - at
	}
	return behind
}

func ignore(end func() error) { _ = end() }

func (v *verifier) read(client sarama.Client, consumer sarama.Consumer, topic string, partition int32, each func(*sarama.ConsumerMessage)) {
	end, err := client.GetOffset(topic, partition, sarama.OffsetNewest)
	require.NoError(v.t.t, err)
	if end == 0 {
		return
	}
	messages, err := consumer.ConsumePartition(topic, partition, sarama.OffsetOldest)
	require.NoError(v.t.t, err)
	defer messages.Close() //nolint:errcheck // nothing is pending
	for m := range messages.Messages() {
		each(m)
		if m.Offset == end-1 {
			return
		}
	}
}

// index compares the documents with the items, without `atlas check`.
func (v *verifier) index(ctx context.Context) {
	want := map[string]int64{}
	rows, err := v.db.Query(ctx, "SELECT i.id::text, i.version FROM items i JOIN collections c ON c.id = i.collection_id WHERE i.deleted_at IS NULL AND c.deleted_at IS NULL")
	require.NoError(v.t.t, err)
	for rows.Next() {
		var id string
		var version int64
		require.NoError(v.t.t, rows.Scan(&id, &version))
		want[id] = version
	}
	require.NoError(v.t.t, rows.Err())
	v.ask(ctx, "/_refresh", nil, nil)
	after := ""
	for {
		body := object{"size": 5000, "version": true, "_source": []string{"version"}, "query": object{"match_all": object{}}, "sort": []any{object{"id": "asc"}}}
		if after != "" {
			body["search_after"] = []string{after}
		}
		var answer struct {
			Hits struct {
				Hits []struct {
					ID      string `json:"_id"`
					Version int64  `json:"_version"`
					Source  struct {
						Version int64 `json:"version"`
					} `json:"_source"`
				} `json:"hits"`
			} `json:"hits"`
		}
		v.ask(ctx, "/_search", body, &answer)
		for _, hit := range answer.Hits.Hits {
			if want[hit.ID] != hit.Version || want[hit.ID] != hit.Source.Version {
				v.found.add("the index has version %d of item %s under the number %d, PostgreSQL has %d", hit.Source.Version, hit.ID, hit.Version, want[hit.ID])
			}
			delete(want, hit.ID)
			after = hit.ID
		}
		if len(answer.Hits.Hits) == 0 {
			break
		}
	}
	for _, id := range sortedKeys(want) {
		v.found.add("the index lacks item %s", id)
	}
}

func (v *verifier) ask(ctx context.Context, path string, body, answer any) {
	content, err := json.Marshal(body)
	require.NoError(v.t.t, err)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, v.t.servers.ElasticsearchURL+"/"+v.t.alias+path, bytes.NewReader(content))
	require.NoError(v.t.t, err)
	request.Header.Set("Content-Type", "application/json")
	if body == nil {
		request.Body, request.ContentLength = http.NoBody, 0
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(v.t.t, err)
	defer response.Body.Close()
	require.Equal(v.t.t, http.StatusOK, response.StatusCode)
	if answer != nil {
		require.NoError(v.t.t, json.NewDecoder(response.Body).Decode(answer))
	}
}
