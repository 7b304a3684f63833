package api_test

import (
	"encoding/json"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
)

func TestCollectionCounts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	collection, other := b.collection(ada, "c"), b.collection(ada, "other")
	counts := func(body map[string]any) []any { return []any{body["item_count"], body["member_count"]} }
	created := b.call(ada, "POST", "/v1/collections", map[string]any{"name": "new"}).is(201)
	require.Equal(t, []any{0.0, 1.0}, counts(created.body))

	b.item(ada, collection, "one")
	b.item(ada, collection, "two")
	b.call(ada, "DELETE", "/v1/items/"+b.item(ada, collection, "gone"), nil).is(204)
	b.item(ada, other, "elsewhere")
	b.member(ada, collection, eve, "viewer")
	require.Equal(t, []any{2.0, 2.0}, counts(b.call(eve, "GET", "/v1/collections/"+collection, nil).is(200).body))
	require.Equal(t, []any{2.0, 2.0}, counts(b.call(ada, "PATCH", "/v1/collections/"+collection, map[string]any{"name": "d"}).is(200).body))
	list := b.call(ada, "GET", "/v1/collections", nil).is(200).items()
	require.Len(t, list, 3)
	require.Equal(t, [][]any{{0.0, 1.0}, {1.0, 1.0}, {2.0, 2.0}}, [][]any{counts(list[0]), counts(list[1]), counts(list[2])})
	require.Equal(t, "viewer", b.call(eve, "GET", "/v1/collections", nil).is(200).items()[0]["my_role"])

	_, err := b.pool.Exec(t.Context(), `INSERT INTO items (id, collection_id, title, created_by, updated_by)
		SELECT gen_random_uuid(), $1, 't', $2, $2 FROM generate_series(1, 10001)`, other, ada.id)
	require.NoError(t, err)
	require.Equal(t, []any{10000.0, 1.0}, counts(b.call(ada, "GET", "/v1/collections/"+other, nil).is(200).body), "counted up to a limit")
}

func TestCollectionETag(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	created := b.call(ada, "POST", "/v1/collections", map[string]any{"name": "c"}).is(201)
	require.Equal(t, `"1"`, created.header.Get("ETag"))
	path := "/v1/collections/" + created.id()
	b.member(ada, created.id(), eve, "editor")
	require.Equal(t, `"1"`, b.call(ada, "GET", path, nil).is(200).header.Get("ETag"))
	for _, tags := range []string{`"1"`, `W/"1"`, `"7", "1"`, "*"} {
		a := b.call(ada, "GET", path, nil, header("If-None-Match", tags)).is(304)
		require.Empty(t, a.raw)
		require.Equal(t, `"1"`, a.header.Get("ETag"))
	}
	b.call(ada, "GET", path, nil, header("If-None-Match", `"2"`)).is(200)

	changed := b.call(ada, "PATCH", path, map[string]any{"name": "d"}, header("If-Match", `"1"`)).is(200)
	require.Equal(t, `"2"`, changed.header.Get("ETag"))
	events := len(b.envelopes())
	for _, tags := range []string{`"1"`, `W/"2"`, `"20"`, "2"} {
		b.call(ada, "PATCH", path, map[string]any{"name": "e"}, header("If-Match", tags)).problem(412, "precondition-failed")
		b.call(ada, "DELETE", path, nil, header("If-Match", tags)).problem(412, "precondition-failed")
	}
	b.call(ada, "PATCH", path, map[string]any{"name": "d"}, header("If-Match", `"1"`)).problem(412, "precondition-failed")
	b.call(eve, "PATCH", path, map[string]any{"name": "e"}, header("If-Match", `"1"`)).problem(403, "forbidden")
	require.Len(t, b.envelopes(), events)
	require.Equal(t, "d", b.call(ada, "GET", path, nil).is(200).body["name"])
	b.call(ada, "DELETE", path, nil, header("If-Match", `"1", "2"`)).is(204)
	b.call(ada, "DELETE", path, nil, header("If-Match", `"3"`)).problem(404, "not-found")
}

// TestConditionalRenamesLoseNothing has clients rename a collection at the same time, each only what it has read.
func TestConditionalRenamesLoseNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	path := "/v1/collections/" + b.collection(ada, "c")
	var done sync.WaitGroup
	for range 6 {
		done.Go(func() {
			for {
				a := b.call(ada, "GET", path, nil)
				name, _ := a.body["name"].(string)
				a = b.call(ada, "PATCH", path, map[string]any{"name": name + "x"}, header("If-Match", a.header.Get("ETag")))
				if a.status != 412 {
					return
				}
			}
		})
	}
	done.Wait()
	a := b.call(ada, "GET", path, nil).is(200)
	require.Equal(t, "cxxxxxx", a.body["name"])
	require.InDelta(t, 7, a.body["version"], 0)
}

func TestCollectionWritesAreDoneOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	twice := func(path string, body any, key string) answer {
		t.Helper()
		first := b.call(ada, "POST", path, body, header("Idempotency-Key", key))
		require.Less(t, first.status, 300, string(first.raw))
		require.Empty(t, first.header.Get("Idempotency-Replayed"))
		events := len(b.envelopes())
		second := b.call(ada, "POST", path, body, header("Idempotency-Key", key)).is(first.status)
		require.Equal(t, "true", second.header.Get("Idempotency-Replayed"))
		require.JSONEq(t, string(first.raw), string(second.raw))
		for _, name := range []string{"ETag", "Location", "Content-Type"} {
			require.Equal(t, first.header.Get(name), second.header.Get(name), name)
		}
		require.Len(t, b.envelopes(), events)
		return first
	}
	collection := twice("/v1/collections", map[string]any{"name": "c"}, "create").id()
	b.call(ada, "POST", "/v1/collections", map[string]any{"name": "d"}, header("Idempotency-Key", "create")).problem(422, "idempotency-key-reused")
	require.Len(t, b.call(ada, "GET", "/v1/collections", nil).is(200).items(), 1)

	path := "/v1/collections/" + collection
	refused := map[string]any{"email": "nobody@example.com", "role": "viewer"}
	b.call(ada, "POST", path+"/members", refused, header("Idempotency-Key", "add")).problem(422, "validation", "/email")
	twice(path+"/members", map[string]any{"email": eve.email, "role": "viewer"}, "add") // a refused request used no key
	require.Equal(t, "editor", twice(path+"/transfer", map[string]any{"email": eve.email}, "transfer").body["my_role"])
	b.call(ada, "POST", path+"/transfer", map[string]any{"email": eve.email}).problem(403, "forbidden")
}

// TestManyCreateOneCollection sends the same request many times at once.
func TestManyCreateOneCollection(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	ids := make([]string, 20)
	var done sync.WaitGroup
	for i := range ids {
		done.Go(func() {
			a := b.call(ada, "POST", "/v1/collections", map[string]any{"name": "c"}, header("Idempotency-Key", "k"))
			ids[i], _ = a.body["id"].(string)
		})
	}
	done.Wait()
	for _, id := range ids {
		require.Equal(t, ids[0], id)
	}
	require.NotEmpty(t, ids[0])
	require.Len(t, b.call(ada, "GET", "/v1/collections", nil).is(200).items(), 1)
	require.Len(t, b.envelopes(), 1)
}

// TestADeletedCollectionIsOutOfSightAtOnce asks for everything that was in it, before any purge.
func TestADeletedCollectionIsOutOfSightAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve, admin := b.account("ada"), b.account("eve"), b.admin("admin")
	kept := b.collection(ada, "kept")
	b.item(ada, kept, "kept plans", "kept")
	collection := b.collection(ada, "c")
	b.member(ada, collection, eve, "editor")
	item, trashed := b.item(ada, collection, "secret plans", "secret"), b.item(ada, collection, "old secret")
	b.call(ada, "PATCH", "/v1/items/"+item, map[string]any{"title": "secret plans two"}).is(200)
	b.call(ada, "DELETE", "/v1/items/"+trashed, nil).is(204)
	job := b.call(ada, "POST", "/v1/jobs", map[string]any{"type": "reindex", "parameters": map[string]any{"collection_id": collection}}).is(202).id()
	b.call(ada, "DELETE", "/v1/collections/"+collection, nil).is(204)

	var live int
	require.NoError(t, b.pool.QueryRow(t.Context(),
		"SELECT count(*) FROM items WHERE collection_id = $1 AND deleted_at IS NULL", collection).Scan(&live))
	require.Equal(t, 1, live, "the purge has not come yet")
	var tag uuid.UUID
	require.NoError(t, b.pool.QueryRow(t.Context(), "SELECT id FROM tags WHERE collection_id = $1", collection).Scan(&tag))
	root := "/v1/collections/" + collection
	for _, user := range []*account{ada, eve} {
		for _, gone := range []struct {
			method, path string
			body         any
		}{
			{"GET", root, nil},
			{"PATCH", root, map[string]any{"name": "x"}},
			{"DELETE", root, nil},
			{"POST", root + "/transfer", map[string]any{"email": eve.email}},
			{"GET", root + "/members", nil},
			{"POST", root + "/members", map[string]any{"email": admin.email, "role": "viewer"}},
			{"PATCH", root + "/members/" + eve.id, map[string]any{"role": "viewer"}},
			{"DELETE", root + "/members/" + eve.id, nil},
			{"GET", root + "/items.ndjson", nil},
			{"GET", root + "/items.zip", nil},
			{"GET", root + "/tags", nil},
			{"PATCH", root + "/tags/" + tag.String(), map[string]any{"name": "x"}},
			{"DELETE", root + "/tags/" + tag.String(), nil},
			{"POST", root + "/tags/" + tag.String() + "/merge", map[string]any{"tag_ids": []string{uuid.NewString()}}},
			{"GET", "/v1/items/" + item, nil},
			{"PATCH", "/v1/items/" + item, map[string]any{"title": "x"}},
			{"DELETE", "/v1/items/" + item, nil},
			{"GET", "/v1/items/" + item + "/revisions", nil},
			{"GET", "/v1/items/" + item + "/revisions/1", nil},
			{"POST", "/v1/items/" + item + "/revisions/1/restore", nil},
			{"POST", "/v1/items/" + trashed + "/restore", nil},
			{"POST", "/v1/items", map[string]any{"collection_id": collection, "title": "t", "content": ""}},
			{"GET", "/v1/items?collection_id=" + collection, nil},
			{"GET", "/v1/items?tag=secret&collection_id=" + collection, nil},
			{"GET", "/v1/trash?collection_id=" + collection, nil},
			{"GET", "/v1/search?collection_id=" + collection, nil},
			{"GET", "/v1/search/suggest?q=sec&collection_id=" + collection, nil},
			{"GET", "/v1/audit-events?collection_id=" + collection, nil},
			{"GET", "/v1/jobs?collection_id=" + collection, nil},
			{"GET", "/v1/jobs/" + job, nil},
			{"POST", "/v1/jobs", map[string]any{"type": "reindex", "parameters": map[string]any{"collection_id": collection}}},
		} {
			a := b.call(user, gone.method, gone.path, gone.body)
			require.Equal(t, 404, a.status, "%s %s: %s", gone.method, gone.path, a.raw)
			a.problem(404, "not-found")
			require.NotContains(t, a.body["detail"], "nothing is at this path")
		}
		for _, path := range []string{
			"/v1/items?tag=secret", "/v1/items?sort=title&tag=secret", "/v1/search?q=secret", "/v1/search?q=tag:secret", "/v1/search/suggest?q=sec",
			"/v1/jobs", "/v1/trash",
		} {
			a := b.call(user, "GET", path, nil).is(200)
			require.Empty(t, a.items(), path)
			require.NotContains(t, string(a.raw), "secret", path)
		}
	}
	require.Len(t, b.call(ada, "GET", "/v1/collections", nil).is(200).items(), 1)
	require.Empty(t, b.call(eve, "GET", "/v1/collections", nil).is(200).items())
	require.Len(t, b.call(ada, "GET", "/v1/items", nil).is(200).items(), 1)
	found := b.call(ada, "GET", "/v1/search?q=plans&facets=tags,collections", nil).is(200)
	require.Len(t, found.items(), 1)
	require.NotContains(t, string(found.raw), "secret")
	require.NotContains(t, string(found.raw), collection)

	// A platform admin sees the jobs.
	b.call(admin, "GET", "/v1/jobs/"+job, nil).is(200)
	jobs := b.call(admin, "GET", "/v1/jobs", nil).is(200).items()
	require.Len(t, jobs, 2)
	require.Equal(t, "purge", jobs[0]["type"])
	require.Equal(t, map[string]any{"collection_id": collection}, jobs[0]["parameters"])
	b.call(admin, "POST", "/v1/jobs", map[string]any{"type": "purge", "parameters": map[string]any{"collection_id": kept}}).problem(422, "validation", "/type")
}

// TestACollectionIsDeletedWhileItemsAreCreated lets both race: every item that was created is the purge's, which was queued after it, once.
func TestACollectionIsDeletedWhileItemsAreCreated(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	for range 5 {
		collection := b.collection(ada, "c")
		var racers sync.WaitGroup
		var lock sync.Mutex
		var created []string
		for range 6 {
			racers.Go(func() {
				a := b.call(ada, "POST", "/v1/items", map[string]any{"collection_id": collection, "title": "t", "content": ""})
				lock.Lock()
				defer lock.Unlock()
				if a.status == 201 {
					created = append(created, a.id())
				} else if a.status != 404 {
					t.Errorf("an item: %d %s", a.status, a.raw)
				}
			})
		}
		for range 2 {
			racers.Go(func() {
				if a := b.call(ada, "DELETE", "/v1/collections/"+collection, nil); a.status != 204 && a.status != 404 {
					t.Errorf("the collection: %d %s", a.status, a.raw)
				}
			})
		}
		racers.Wait()
		for _, id := range created {
			b.call(ada, "GET", "/v1/items/"+id, nil).problem(404, "not-found")
		}
		var purges int
		require.NoError(t, b.pool.QueryRow(t.Context(), "SELECT count(*) FROM jobs WHERE collection_id = $1 AND type = 'purge'", collection).Scan(&purges))
		require.Equal(t, 1, purges)
		// The outbox has the order of the commits for one who holds the collection's lock: no item came after the deletion.
		deleted := false
		for _, e := range b.envelopes() {
			if e.Entity.CollectionID == nil || e.Entity.CollectionID.String() != collection {
				continue
			}
			require.False(t, deleted && e.EventType == event.ItemCreated, "an item was created in a deleted collection")
			deleted = deleted || e.EventType == event.CollectionDeleted
		}
		require.True(t, deleted)
	}
	require.Empty(t, b.call(ada, "GET", "/v1/items", nil).is(200).items())
}

// membershipEvents are the membership events in the outbox as "type user role<previous".
func (b *testBundle) membershipEvents(names map[string]string) []string {
	b.t.Helper()
	out := []string{}
	for _, e := range b.envelopes() {
		if e.Entity.Type != event.EntityMembership {
			continue
		}
		var data event.MembershipData
		require.NoError(b.t, json.Unmarshal(e.Data, &data))
		line := string(e.EventType) + " " + names[data.UserID.String()] + " " + data.Role
		if data.PreviousRole != nil {
			line += "<" + *data.PreviousRole
		}
		out = append(out, line)
	}
	return out
}
