package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func key(name string) option { return header("Idempotency-Key", name) }

func (a answer) replayed() bool { return a.header.Get("Idempotency-Replayed") == "true" }

func (b *testBundle) number(query string, args ...any) (n int) {
	b.t.Helper()
	require.NoError(b.t, b.pool.QueryRow(b.t.Context(), query, args...).Scan(&n))
	return n
}

func newItem(collection, title string) map[string]any {
	return map[string]any{"collection_id": collection, "title": title, "content": "c", "metadata": map[string]any{"collection_id": uuid.NewString()}}
}

// TestHundredEqualRequests are one.
func TestHundredEqualRequests(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	before := len(b.envelopes())
	body, answers := newItem(c, "one"), make([]answer, 100)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = b.call(ada, "POST", "/v1/items", body, key("k")) })
	}
	wg.Wait()
	replays := 0
	for _, a := range answers {
		a.is(201)
		require.Equal(t, string(answers[0].raw), string(a.raw))
		for _, name := range []string{"ETag", "Location", "Content-Type"} {
			require.NotEmpty(t, a.header.Get(name))
			require.Equal(t, answers[0].header.Get(name), a.header.Get(name))
		}
		require.NotEmpty(t, a.header.Get("X-Request-Id"))
		if a.replayed() {
			replays++
		}
	}
	require.Equal(t, 99, replays)
	require.Equal(t, 1, b.number("SELECT count(*) FROM items"))
	require.Len(t, b.envelopes(), before+1)
	require.NotEqual(t, answers[0].header.Get("X-Request-Id"), answers[1].header.Get("X-Request-Id"), "what is about the request is not replayed")
}

// TestEveryKeyedOperationReplays does each operation that takes a key, twice.
func TestEveryKeyedOperationReplays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve, bob := b.account("ada"), b.account("eve"), b.account("bob")
	c, other := b.collection(ada, "c"), b.collection(ada, "other")
	item, deleted := b.item(ada, c, "one", "tag", "tog"), b.item(ada, c, "two")
	b.call(ada, "DELETE", "/v1/items/"+deleted, nil).is(204)
	b.call(ada, "PATCH", "/v1/items/"+item, map[string]any{"title": "changed"}).is(200)
	bodies := map[string]any{
		"createCollection": map[string]any{"name": "n"}, "transferCollection": map[string]any{"email": eve.email},
		"addMember":  map[string]any{"email": bob.email, "role": "viewer"},
		"createItem": newItem(c, "new"), "restoreItem": nil, "restoreRevision": nil,
		"bulkItems": map[string]any{"operations": []any{map[string]any{"op": "create", "item": newItem(c, "bulk")}}},
	}
	var tags []string
	rows, err := b.pool.Query(t.Context(), "SELECT id::text FROM tags ORDER BY name")
	require.NoError(t, err)
	tags, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	bodies["mergeTags"] = map[string]any{"tag_ids": tags[1:]}
	ids := map[string]string{"restoreItem": deleted, "transferCollection": other}
	for _, op := range operations(t, map[string]string{"/v1/collections/": c, "/v1/items/": item}) {
		body, keyed := bodies[op.id]
		if !keyed {
			continue
		}
		path := strings.ReplaceAll(op.path, uuid.Nil.String(), tags[0])
		if id := ids[op.id]; id != "" {
			path = strings.NewReplacer(c, id, item, id).Replace(path)
		}
		first := b.call(ada, op.method, path, body, key(op.id))
		require.Less(t, first.status, 300, "%s: %s", op.id, first.raw)
		require.False(t, first.replayed())
		events := len(b.envelopes())
		second := b.call(ada, op.method, path, body, key(op.id))
		require.Equal(t, first.status, second.status, "%s: %s", op.id, second.raw)
		require.Equal(t, string(first.raw), string(second.raw))
		require.True(t, second.replayed(), op.id)
		require.Len(t, b.envelopes(), events)
		for _, name := range []string{"ETag", "Location"} {
			require.Equal(t, first.header.Get(name), second.header.Get(name), op.id)
		}
	}
}

func TestKeyOfAnotherRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	c := b.collection(ada, "c")
	b.member(ada, c, eve, "editor")
	first := b.call(ada, "POST", "/v1/items", newItem(c, "one"), key("k"))
	first.is(201)
	b.call(ada, "POST", "/v1/items", newItem(c, "two"), key("k")).problem(422, "idempotency-key-reused", "Idempotency-Key")
	b.call(ada, "POST", "/v1/collections", map[string]any{"name": "n"}, key("k")).problem(422, "idempotency-key-reused", "Idempotency-Key")
	item := "/v1/items/" + first.id()
	b.call(ada, "DELETE", item, nil).is(204)
	b.call(ada, "POST", item+"/restore", nil, key("restore")).is(200)
	other := b.item(ada, c, "other")
	b.call(ada, "DELETE", "/v1/items/"+other, nil).is(204)
	b.call(ada, "POST", "/v1/items/"+other+"/restore", nil, key("restore")).problem(422, "idempotency-key-reused")

	theirs := b.call(eve, "POST", "/v1/items", newItem(c, "two"), key("k")).is(201)
	require.False(t, theirs.replayed(), "keys of two users have nothing to do with each other")
	require.NotEqual(t, first.id(), theirs.id())
	for _, bad := range []string{strings.Repeat("x", 256), "a b", "ü"} {
		b.call(ada, "POST", "/v1/items", newItem(c, "one"), key(bad)).problem(400, "invalid-request", "Idempotency-Key")
	}
}

func TestRefusedRequestIsNotKept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve, operator := b.account("ada"), b.account("eve"), b.operator()
	c := b.collection(ada, "c")
	b.call(eve, "POST", "/v1/items", newItem(c, "one"), key("k")).problem(404, "not-found")
	b.member(ada, c, eve, "viewer")
	b.call(eve, "POST", "/v1/items", newItem(c, "one"), key("k")).problem(403, "forbidden")
	b.call(operator, "POST", "/v1/items", newItem(c, "one"), key("k")).problem(404, "not-found")
	b.call(operator, "POST", "/v1/collections", map[string]any{"name": "n"}, key("k")).problem(403, "forbidden")
	require.Zero(t, b.number("SELECT count(*) FROM idempotency_keys"))
	b.call(ada, "PATCH", "/v1/collections/"+c+"/members/"+eve.id, map[string]any{"role": "editor"}).is(200)
	require.False(t, b.call(eve, "POST", "/v1/items", newItem(c, "two"), key("k")).is(201).replayed())
}

func TestOldKeyIsForgotten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	first := b.call(ada, "POST", "/v1/items", newItem(c, "one"), key("k"))
	age := func(by string) {
		_, err := b.pool.Exec(t.Context(), "UPDATE idempotency_keys SET created_at = now() - $1::interval", by)
		require.NoError(t, err)
	}
	age("23 hours 59 minutes")
	again := map[string]any{"collection_id": c, "title": "two", "content": ""}
	b.call(ada, "POST", "/v1/items", again, key("k")).problem(422, "idempotency-key-reused")
	age("24 hours 1 minute")
	second := b.call(ada, "POST", "/v1/items", again, key("k")).is(201)
	require.False(t, second.replayed())
	require.NotEqual(t, first.id(), second.id())
	third := b.call(ada, "POST", "/v1/items", again, key("k")).is(201)
	require.True(t, third.replayed(), "it counts from the new use")
	require.Equal(t, second.id(), third.id())
	require.Equal(t, 1, b.number("SELECT count(*) FROM idempotency_keys"))
}

// TestKeyOfWorkThatCrashed: the transaction that used the key ends without a commit, as it does when its process dies.
func TestKeyOfWorkThatCrashed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `INSERT INTO idempotency_keys (principal, key, request_hash, status, header, body, collections)
		VALUES ($1, 'k', '\x00', 201, '{}', '', '{}')`, ada.id)
	require.NoError(t, err)
	done := make(chan answer, 1)
	go func() { done <- b.call(ada, "POST", "/v1/items", newItem(c, "one"), key("k")) }()
	require.Eventually(t, func() bool {
		return b.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 1
	}, time.Minute, 5*time.Millisecond, "the request waits for the one that uses the key")
	require.NoError(t, tx.Rollback(t.Context()))
	a := <-done
	require.Equal(t, http.StatusCreated, a.status, string(a.raw))
	require.False(t, a.replayed())
}

// TestReplayNeedsTheRight: an answer is not repeated to those who may not see any more what it tells.
func TestReplayNeedsTheRight(t *testing.T) {
	t.Parallel()
	b := setup(t)
	owner, guest := b.account("owner"), b.account("guest")
	c, mine := b.collection(owner, "c"), b.collection(guest, "mine")
	b.member(owner, c, guest, "owner")
	source := map[string]any{"collection_id": c, "title": "secret plans", "content": "", "source_url": "https://example.com/plans"}
	b.call(owner, "POST", "/v1/items", source).is(201)
	created := newItem(c, "secret plans")
	shown := []func() answer{
		func() answer { return b.call(guest, "POST", "/v1/items", created, key("created")) },
		func() answer { return b.call(guest, "POST", "/v1/items", source, key("existing")) },
		func() answer {
			return b.call(guest, "POST", "/v1/collections/"+c+"/members", map[string]any{"email": b.account("x").email, "role": "viewer"}, key("member"))
		},
	}
	inMine := newItem(mine, "mine")
	own := b.call(guest, "POST", "/v1/items", inMine, key("mine")).is(201)
	for i, ask := range shown[:2] {
		a := ask()
		require.Less(t, a.status, 300, "%d: %s", i, a.raw)
		require.True(t, ask().replayed(), fmt.Sprint(i))
	}
	shown[2]().is(201)
	require.Equal(t, 4, b.number("SELECT count(*) FROM idempotency_keys"))

	b.call(owner, "PATCH", "/v1/collections/"+c+"/members/"+guest.id, map[string]any{"role": "viewer"}).is(200)
	require.True(t, shown[0]().is(201).replayed(), "a viewer may see it")
	b.call(owner, "DELETE", "/v1/collections/"+c+"/members/"+guest.id, nil).is(204)
	for _, ask := range shown[:2] {
		a := ask().problem(404, "not-found")
		require.NotContains(t, string(a.raw), "secret plans")
		require.False(t, a.replayed())
	}
	require.Equal(t, own.id(), b.call(guest, "POST", "/v1/items", inMine, key("mine")).is(201).id())
}
