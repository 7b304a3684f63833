//go:build linux

package faults

import (
	"bytes"
	"context"
	"encoding/json"
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

// verify compares everything that there is with everything else, and with what the clients were told. It ends early when it has found enough.
func verify(p *platformBundle, w *workload, settle time.Duration, enough func(findings) bool) findings {
	ctx, cancel := context.WithTimeout(context.Background(), settle+2*time.Minute)
	defer cancel()
	found := slices.Clone(w.answers)
	database, err := pgx.Connect(ctx, p.database)
	require.NoError(p.t, err)
	defer database.Close(ctx) //nolint:errcheck // nothing is pending
	v := &verifier{t: p, db: database, found: &found}
	v.settle(ctx, settle)
	v.state(w, v.load(ctx))
	v.traces(ctx, w)
	v.versions(ctx)
	v.jobs(ctx, w)
	v.topic(ctx)
	if w.once && v.repeated > 0 {
		found.add(repetition, "%d events were published twice although nothing was broken that explains it", v.repeated)
	}
	v.index(ctx)
	if out, code := p.command("audit", "verify"); code != 0 {
		found.add(brokenChain, "atlas audit verify exits with %d:\n%s", code, out)
	}
	if enough != nil && enough(found) {
		return found
	}
	if out, code := p.command("check", "--deep", "--settle", "2s", "--patience", settle.String()); code != 0 {
		found.add(checkFinds, "atlas check exits with %d:\n%s", code, out)
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
	unpublished: "SELECT count(*) FROM outbox WHERE published_at IS NULL",
	unindexed:   "SELECT count(*) FROM items i LEFT JOIN item_index_state s ON s.item_id = i.id WHERE coalesce(s.indexed_version, 0) < i.version",
	unfinished:  "SELECT count(*) FROM jobs WHERE state IN ('QUEUED', 'RUNNING')",
}

// settle waits until nothing is behind.
func (v *verifier) settle(ctx context.Context, limit time.Duration) {
	for end := time.Now().Add(limit); ; {
		var late findings
		for _, what := range sortedKeys(behind) {
			if n := v.count(ctx, behind[what]); n > 0 {
				late.add(what, "%d", n)
			}
		}
		for _, group := range []string{"audit", "indexer"} {
			if n := v.t.lag(group); n > 0 {
				late.add(unhandled+group, "%d messages", n)
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
				v.found.add(invalidEvent, "an event in the topic is not valid: %v", err)
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
				v.found.add(disorder, "%s of %s %s: version %d came after %d", e.EventType, e.Entity.Type, e.Entity.ID, data.Version, newest[e.Entity.ID])
			}
			seen[e.EventID], newest[e.Entity.ID] = true, data.Version
		})
	}
	for _, id := range v.t.handed {
		seen[id] = true
	}
	audited, err := v.db.Query(ctx, "SELECT event_id FROM audit_events")
	require.NoError(v.t.t, err)
	ids, err := pgx.CollectRows(audited, pgx.RowTo[uuid.UUID])
	require.NoError(v.t.t, err)
	for _, id := range ids {
		if !seen[id] {
			v.found.add(twoTruths, "the audit trail has an event %s that is not in the topic", id)
		}
	}
	if len(ids) != len(seen) {
		v.found.add(twoTruths, "the topic has %d events, the audit trail %d", len(seen), len(ids))
	}
	v.read(client, consumer, kafka.DeadLetterTopic(v.t.topic), 0, func(m *sarama.ConsumerMessage) {
		v.found.add(deadLetter, "a dead letter at offset %d: %s", m.Offset, m.Value)
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
				v.found.add(staleIndex, "the index has version %d of item %s under the number %d, PostgreSQL has %d", hit.Source.Version, hit.ID, hit.Version, want[hit.ID])
			}
			delete(want, hit.ID)
			after = hit.ID
		}
		if len(answer.Hits.Hits) == 0 {
			break
		}
	}
	for _, id := range sortedKeys(want) {
		v.found.add(staleIndex, "the index lacks item %s", id)
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
