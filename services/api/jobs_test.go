package api_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestJobs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	collection := b.collection(ada, "c")
	body := map[string]any{"type": "reindex", "parameters": map[string]any{"collection_id": collection}}
	a := b.call(ada, "POST", "/v1/jobs", body).is(202)
	require.Equal(t, "/v1/jobs/"+a.id(), a.header.Get("Location"))
	self := "/v1/jobs/" + a.id()
	require.Equal(t, map[string]any{
		"id": a.id(), "type": "reindex", "collection_id": collection, "parameters": map[string]any{"collection_id": collection}, "state": "QUEUED",
		"version": 1.0, "attempts": 0.0, "max_attempts": a.body["max_attempts"], "priority": 0.0, "result": nil, "error": nil, "cancel_requested": false, "paused": false,
		"progress": map[string]any{"done": 0.0, "total": 0.0, "message": nil}, "history": []any{}, "created_by": ada.id, "run_at": a.body["created_at"],
		"created_at": a.body["created_at"], "updated_at": a.body["created_at"], "started_at": nil, "finished_at": nil,
		"links": map[string]any{"self": self, "events": self + "/events", "cancel": self + "/cancel", "pause": self + "/pause", "resume": nil, "retry": nil, "file": nil},
	}, a.body)
	require.Equal(t, `"1"`, a.header.Get("ETag"))
	_, err := b.pool.Exec(t.Context(), `UPDATE jobs SET state = 'FAILED', version = 4, attempt = 5, error = '2 items were refused', error_code = 'refused',
		progress_done = 3, progress_total = 7, progress_message = 'reading', started_at = now(), finished_at = now(),
		history = '[{"attempt": 5, "worker": "w", "outcome": "failed", "error_code": "refused", "error": "2 items were refused", "started_at": "2026-01-22T10:00:00.5+01:00"}]'`)
	require.NoError(t, err)
	a = b.call(ada, "GET", self, nil).is(200)
	require.Equal(t, "FAILED", a.body["state"])
	require.Equal(t, map[string]any{"code": "refused", "message": "2 items were refused"}, a.body["error"])
	require.Equal(t, map[string]any{"done": 3.0, "total": 7.0, "message": "reading"}, a.body["progress"])
	require.NotNil(t, a.body["finished_at"])
	require.Equal(t, []any{map[string]any{
		"attempt": 5.0, "outcome": "failed", "error": a.body["error"], "started_at": "2026-01-22T09:00:00.5Z", "finished_at": nil,
	}}, a.body["history"])
	require.Equal(t, map[string]any{"self": self, "events": nil, "cancel": nil, "pause": nil, "resume": nil, "retry": self + "/retry", "file": nil}, a.body["links"])
	require.Regexp(t, `^"4(-gzip)?"$`, a.header.Get("ETag"))
	b.call(ada, "GET", self, nil, header("If-None-Match", `"4"`)).is(304)
	delete(a.body, "history")
	require.Equal(t, a.body, b.call(ada, "GET", "/v1/jobs?collection_id="+collection, nil).is(200).items()[0])

	whole := map[string]any{"type": "reindex", "parameters": map[string]any{}}
	b.call(ada, "POST", "/v1/jobs", whole).problem(403, "forbidden")
	admins := b.call(b.admin("admin"), "POST", "/v1/jobs", whole).is(202)
	require.Nil(t, admins.body["collection_id"])
	for _, r := range []struct{ method, path string }{{"GET", ""}, {"GET", "/events"}, {"POST", "/cancel"}, {"POST", "/retry"}} {
		b.call(ada, r.method, "/v1/jobs/"+admins.id()+r.path, nil).problem(404, "not-found")
	}
	require.NotContains(t, string(b.call(ada, "GET", "/v1/jobs", nil).is(200).raw), admins.id())
	b.call(ada, "POST", "/v1/jobs", map[string]any{"type": "dance", "parameters": map[string]any{"collection_id": collection}}).problem(422, "validation", "/type")
	b.call(ada, "GET", "/v1/jobs/"+uuid.NewString(), nil).problem(404, "not-found")
	first := b.call(ada, "POST", "/v1/jobs", body).is(202).id()
	page := b.call(ada, "GET", "/v1/jobs?limit=1", nil).is(200)
	require.Equal(t, first, page.items()[0]["id"])
	require.Len(t, b.call(ada, "GET", "/v1/jobs?cursor="+page.body["next_cursor"].(string), nil).is(200).items(), 1)
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve, operator := b.account("ada"), b.account("eve"), b.operator()
	collection, other := b.collection(ada, "c"), b.collection(ada, "d")
	b.member(ada, collection, eve, "editor")
	body := map[string]any{"type": "reindex", "parameters": map[string]any{"collection_id": collection}}
	key := header("Idempotency-Key", "key-1")
	ids := make(map[*account]string)
	for _, user := range []*account{ada, eve, operator} {
		events := len(b.envelopes())
		var mutex sync.Mutex
		var wg sync.WaitGroup
		seen := make(map[string]bool)
		for range 6 {
			wg.Go(func() {
				a := b.call(user, "POST", "/v1/jobs", body, key)
				require.Equal(t, 202, a.status, string(a.raw))
				mutex.Lock()
				defer mutex.Unlock()
				seen[a.id()] = true
				ids[user] = a.id()
			})
		}
		wg.Wait()
		require.Len(t, seen, 1)
		require.Len(t, b.envelopes(), events+1)
	}
	require.NotEqual(t, ids[ada], ids[eve], "keys are the caller's own")
	require.NotEqual(t, ids[ada], ids[operator])
	b.call(ada, "POST", "/v1/jobs", map[string]any{"type": "reindex", "parameters": map[string]any{"collection_id": other}}, key).
		problem(422, "idempotency-key-reused", "Idempotency-Key")
	b.call(ada, "POST", "/v1/jobs", body, header("Idempotency-Key", "with space")).problem(400, "invalid-request", "Idempotency-Key")

	all := b.envelopes()
	require.Nil(t, all[len(all)-1].ActorUserID, "the platform itself has no user")
	var creators int
	require.NoError(t, b.pool.QueryRow(t.Context(), "SELECT count(*) FROM jobs WHERE created_by IS NULL").Scan(&creators))
	require.Equal(t, 1, creators)
}

func TestAuditEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, admin := b.account("ada"), b.admin("admin")
	collection, other := b.collection(ada, "c"), b.collection(ada, "d")
	item := uuid.NewString()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 10 {
		eventType, target := "ItemUpdated", collection
		if i == 0 {
			eventType = "ItemCreated"
		}
		if i%2 == 1 {
			target = other
		}
		// Pairs share a time, so that a page may end between two events of the same moment.
		_, err := b.pool.Exec(t.Context(), `INSERT INTO audit_events (event_id, event_type, version, occurred_at, actor_user_id, trace_id, entity_type,
			entity_id, collection_id, data, kafka_partition, kafka_offset, chain_position, previous_hash, hash)
			VALUES (gen_random_uuid(), $1, 1, $2, $3, 'trace', 'Item', $4, $5, '{"entity_version": 9007199254740993}', 0, $6, $6, '', '')`,
			eventType, start.Add(time.Duration(i/2)*time.Hour), ada.id, item, target, i)
		require.NoError(t, err)
	}
	count := func(user *account, query string) int {
		t.Helper()
		total, cursor := 0, ""
		for {
			a := b.call(user, "GET", "/v1/audit-events?limit=3&"+query+cursor, nil).is(200)
			total += len(a.items())
			next, more := a.body["next_cursor"].(string)
			if !more {
				return total
			}
			cursor = "&cursor=" + next
		}
	}
	require.Equal(t, 10, count(admin, ""))
	require.Equal(t, 5, count(ada, "collection_id="+collection))
	require.Equal(t, 10, count(admin, "entity_id="+item))
	require.Equal(t, 5, count(ada, "collection_id="+collection+"&entity_id="+item+"&actor_user_id="+ada.id))
	require.Equal(t, 0, count(admin, "entity_id="+uuid.NewString()))
	require.Equal(t, 10, count(admin, "actor_user_id="+ada.id))
	require.Equal(t, 1, count(admin, "event_type=ItemCreated"))
	require.Equal(t, 4, count(admin, "from=2026-01-01T01:00:00Z&to=2026-01-01T03:00:00Z"))
	first := b.call(ada, "GET", "/v1/audit-events?limit=1&collection_id="+collection, nil).is(200)
	require.Contains(t, string(first.raw), "9007199254740993", "numbers are not rounded")
	require.Equal(t, map[string]any{"type": "Item", "id": item, "collection_id": collection}, first.items()[0]["entity"])
	b.call(ada, "GET", "/v1/audit-events", nil).problem(400, "invalid-request", "collection_id")
}
