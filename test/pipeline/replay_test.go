package pipeline

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/auditchain"
	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/services/replay"
)

// TestReplayRebuildsIndexAndTrail fills index and trail by a random workload, then replays the whole topic into an index and a trail that are empty.
// ATLAS_TEST_SEED repeats a workload.
func TestReplayRebuildsIndexAndTrail(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("ATLAS_TEST_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("ATLAS_TEST_SEED=%d", seed)
	p := start(t)
	w := &workload{p: p, rand: rand.New(rand.NewPCG(seed, 0)), owner: p.person("owner"), guest: p.person("guest")}
	w.run(300)
	p.settled()
	for _, eventType := range event.Types() {
		require.Positive(t, p.count(p.pool, "SELECT count(*) FROM outbox WHERE payload->>'event_type' = $1", eventType), eventType)
	}
	payloads, err := p.pool.Query(t.Context(), "SELECT payload FROM outbox")
	require.NoError(t, err)
	written, err := pgx.CollectRows(payloads, pgx.RowTo[[]byte])
	require.NoError(t, err)
	for _, payload := range written {
		require.NoError(t, event.Validate(payload), string(payload))
	}
	documents, rows := p.documents(p.alias), trail(t, p.pool)
	require.NotEmpty(t, documents)
	require.EqualValues(t, p.count(p.pool, "SELECT count(*) FROM outbox"), len(rows))

	p.stopIndexer()
	p.stopAudit()
	index, database := indexingtest.NewAlias(t, p.es), pgtest.New(t)
	require.Empty(t, p.documents(index))
	for _, group := range []string{"indexer", "audit"} {
		moves, err := replay.Run(t.Context(), replay.Config{Kafka: p.events, GroupPrefix: p.events.Topic}, replay.Options{Group: group}, &bytes.Buffer{}, &bytes.Buffer{})
		require.NoError(t, err)
		var messages int64
		for _, m := range moves {
			messages += m.End - m.To
		}
		require.EqualValues(t, len(rows), messages)
	}
	p.startIndexer(index)
	p.startAudit(database)
	p.settled()

	require.Equal(t, documents, p.documents(index))
	require.Equal(t, rows, trail(t, database))
	report, err := auditchain.Verify(t.Context(), database, auditchain.VerifyOptions{})
	require.NoError(t, err)
	require.Empty(t, report.Findings)
	require.EqualValues(t, len(rows), report.Rows)
}

// trail is every row of the audit trail but for when it was recorded and, because they cover that, the hashes.
func trail(t *testing.T, pool *pgxpool.Pool) []map[string]any {
	t.Helper()
	rows, err := pool.Query(t.Context(), "SELECT * FROM audit_events ORDER BY kafka_partition, chain_position")
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowToMap)
	require.NoError(t, err)
	for _, row := range all {
		delete(row, "recorded_at")
		delete(row, "hash")
		delete(row, "previous_hash")
	}
	return all
}

// workload makes random changes of every kind.
type workload struct {
	p            *platform
	rand         *rand.Rand
	owner, guest *person
	collections  []string
	items        []string
	serial       int
}

func (w *workload) run(changes int) {
	w.createCollection()
	for range changes {
		switch w.rand.IntN(12) {
		case 0:
			w.createCollection()
		case 1:
			w.call("PATCH", "/v1/collections/"+w.pick(w.collections), object{"name": w.name()})
		case 2:
			w.membership()
		case 3:
			w.call("POST", "/v1/jobs", object{"type": "reindex", "parameters": object{"collection_id": w.pick(w.collections)}})
		case 4:
			w.call("DELETE", "/v1/items/"+w.pick(w.items), nil)
		case 5:
			w.call("POST", "/v1/items/"+w.pick(w.items)+"/restore", nil)
		case 6, 7, 8:
			w.call("PATCH", "/v1/items/"+w.pick(w.items), object{"title": w.name(), "tags": []string{w.pick([]string{"a", "b", "c"})}})
		default:
			w.createItem()
		}
	}
	// At least one of each kind, and a collection that takes its items along.
	last := w.createCollection()
	members := "/v1/collections/" + last + "/members"
	w.p.must(w.owner, "POST", members, object{"email": w.guest.email, "role": "viewer"})
	w.p.must(w.owner, "PATCH", members+"/"+w.guest.id, object{"role": "editor"})
	w.p.must(w.owner, "DELETE", members+"/"+w.guest.id, nil)
	w.p.must(w.owner, "PATCH", "/v1/collections/"+last, object{"name": w.name()})
	w.p.must(w.owner, "POST", "/v1/jobs", object{"type": "reindex", "parameters": object{"collection_id": last}})
	for range 5 {
		w.p.must(w.owner, "POST", "/v1/items", object{"collection_id": last, "title": w.name(), "content": "to go"})
	}
	w.p.must(w.owner, "DELETE", "/v1/collections/"+last, nil)
}

// call makes a change that may be refused: the thing may be gone, or as it is asked to be.
func (w *workload) call(method, path string, body any) (object, bool) {
	status, answer := w.p.call(w.owner, method, path, body)
	require.Less(w.p.t, status, 500, "%s %s: %v", method, path, answer)
	return answer, status < 300
}

func (w *workload) createCollection() string {
	id := w.p.must(w.owner, "POST", "/v1/collections", object{"name": w.name()})
	w.collections = append(w.collections, id)
	return id
}

func (w *workload) createItem() {
	answer, ok := w.call("POST", "/v1/items", object{
		"collection_id": w.pick(w.collections), "title": w.name(), "content": "some words " + w.name(), "tags": []string{"a", w.name()},
	})
	if ok {
		w.items = append(w.items, answer["id"].(string))
	}
}

func (w *workload) membership() {
	members := "/v1/collections/" + w.pick(w.collections) + "/members"
	switch w.rand.IntN(3) {
	case 0:
		w.call("POST", members, object{"email": w.guest.email, "role": "viewer"})
	case 1:
		w.call("PATCH", members+"/"+w.guest.id, object{"role": w.pick([]string{"viewer", "editor", "owner"})})
	default:
		w.call("DELETE", members+"/"+w.guest.id, nil)
	}
}

func (w *workload) name() string {
	w.serial++
	return fmt.Sprint("n", w.serial)
}

func (w *workload) pick(of []string) string {
	if len(of) == 0 {
		return "00000000-0000-7000-8000-000000000000"
	}
	return of[w.rand.IntN(len(of))]
}
