package api_test

import (
	"maps"
	"testing"
	"time"
)

// TestAKeyOfAJobStandsForAllOfItsBody, whatever becomes of the job.
func TestAKeyOfAJobStandsForAllOfItsBody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.admin("admin")
	c := b.collection(admin, "c")
	parameters := object{"collection_id": c}
	at := func(in time.Duration) string { return time.Now().Add(in).UTC().Format(time.RFC3339) }
	for name, body := range map[string]object{
		"bare": {"type": "reindex", "parameters": parameters},
		"full": {"type": "reindex", "parameters": parameters, "run_at": at(time.Hour), "max_attempts": 3, "priority": 2},
		"past": {"type": "reindex", "parameters": parameters, "run_at": at(-time.Hour)},
	} {
		k := key(name)
		id := b.call(admin, "POST", "/v1/jobs", body, k).is(202).id()
		same := func() {
			t.Helper()
			if again := b.call(admin, "POST", "/v1/jobs", body, k).is(202).id(); again != id {
				t.Fatalf("%s: another job", name)
			}
		}
		same()
		for field, value := range map[string]any{
			"run_at": at(2 * time.Hour), "max_attempts": 4, "priority": 1, "type": "enrich", "parameters": object{"collection_id": b.collection(admin, "d")},
		} {
			other := maps.Clone(body)
			other[field] = value
			b.call(admin, "POST", "/v1/jobs", other, k).problem(422, "idempotency-key-reused", "Idempotency-Key")
			if _, there := body[field]; there && field != "type" && field != "parameters" {
				delete(other, field)
				b.call(admin, "POST", "/v1/jobs", other, k).problem(422, "idempotency-key-reused", "Idempotency-Key")
			}
		}
		b.changeJob(id, "state = 'FAILED', run_at = now() + interval '3 hours', attempt = 3")
		same() // whatever has become of it
	}
	id := b.call(admin, "POST", "/v1/jobs", `{"type":"reindex","parameters":{"collection_id":"`+c+`"},"max_attempts":2}`, key("order")).is(202).id()
	if again := b.call(admin, "POST", "/v1/jobs", `{ "max_attempts":2, "parameters":{"collection_id":"`+c+`"}, "type":"reindex"}`, key("order")).is(202).id(); again != id {
		t.Fatal("the order of its members makes no other body")
	}
}

// TestTheKeyOfAJobThatTheVersionBeforeQueued: it wrote down less of the request.
func TestTheKeyOfAJobThatTheVersionBeforeQueued(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	id := b.call(ada, "POST", "/v1/jobs", reindex(c), key("k")).is(202).id()
	b.changeJob(id, "request_hash = NULL")
	if again := b.call(ada, "POST", "/v1/jobs", reindex(c), key("k")).is(202).id(); again != id {
		t.Fatal("another job")
	}
	b.call(ada, "POST", "/v1/jobs", reindex(b.collection(ada, "d")), key("k")).problem(422, "idempotency-key-reused", "Idempotency-Key")
}
