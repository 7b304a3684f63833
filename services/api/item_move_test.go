package api_test

import (
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
)

func TestMoveItem(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	from, to, hidden, read := b.collection(ada, "from"), b.collection(ada, "to"), b.collection(ada, "hidden"), b.collection(ada, "read")
	b.member(ada, from, eve, "editor")
	b.member(ada, to, eve, "editor")
	b.member(ada, read, eve, "viewer")
	b.item(ada, to, "there", "b")
	item := b.item(eve, from, "moved", "a", "b")
	path := "/v1/items/" + item

	b.call(eve, "PATCH", path, object{"collection_id": hidden}).problem(404, "not-found")
	b.call(eve, "PATCH", path, object{"collection_id": uuid.NewString()}).problem(404, "not-found")
	b.call(eve, "PATCH", path, object{"collection_id": read, "title": "x"}).problem(403, "forbidden")
	b.call(eve, "PATCH", path, object{"collection_id": to}, header("If-Match", `"2"`)).problem(412, "precondition-failed")
	require.Equal(t, `"1"`, b.call(eve, "PATCH", path, object{"collection_id": from}).is(200).header.Get("ETag"), "it is there")

	moved := b.call(eve, "PATCH", path, object{"collection_id": to}, header("If-Match", `"1"`)).is(200)
	require.Equal(t, to, moved.body["collection_id"])
	require.Equal(t, []any{"a", "b"}, moved.body["tags"])
	require.Equal(t, "editor", moved.body["my_role"])
	require.Equal(t, `"2"`, moved.header.Get("ETag"))
	require.Equal(t, moved.body, b.call(eve, "GET", path, nil).is(200).body)
	events := b.envelopes()
	last := events[len(events)-1]
	require.Equal(t, event.ItemUpdated, last.EventType)
	require.Equal(t, to, last.Entity.CollectionID.String())
	require.JSONEq(t, `["collection_id"]`, field(t, last.Data, "changed_fields"))
	require.JSONEq(t, `"`+to+`"`, field(t, last.Data, "collection_id"))
	require.Empty(t, b.call(ada, "GET", "/v1/items?collection_id="+from, nil).is(200).items())
	require.Len(t, b.call(ada, "GET", "/v1/items?tag=b&collection_id="+to, nil).is(200).items(), 2)
	var foreignTags int
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM item_tags it JOIN tags t ON t.id = it.tag_id JOIN items i ON i.id = it.item_id
		WHERE t.collection_id <> i.collection_id`).Scan(&foreignTags))
	require.Zero(t, foreignTags)

	both := b.call(eve, "PATCH", path, object{"collection_id": from, "title": "back", "tags": []string{"c"}}).is(200)
	require.Equal(t, []any{"c"}, both.body["tags"])
	events = b.envelopes()
	require.JSONEq(t, `["collection_id","title","tags"]`, field(t, events[len(events)-1].Data, "changed_fields"))
	b.call(ada, "DELETE", "/v1/collections/"+from+"/members/"+eve.id, nil).is(204)
	b.call(eve, "PATCH", path, object{"collection_id": to}).problem(404, "not-found")
}

// TestMovesAndDeletions moves items to and fro while their collections are deleted: nothing deadlocks for good, and no live item ends in a
// collection that was deleted before it came.
func TestMovesAndDeletions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	for range 4 {
		first, second := b.collection(ada, "first"), b.collection(ada, "second")
		var wg sync.WaitGroup
		for i := range 6 {
			from, to := first, second
			if i%2 == 0 {
				from, to = second, first
			}
			item := b.item(ada, from, "t", "tag")
			wg.Go(func() {
				for _, target := range []string{to, from, to} {
					a := b.call(ada, "PATCH", "/v1/items/"+item, object{"collection_id": target})
					require.Contains(t, []int{200, 404}, a.status, string(a.raw))
				}
			})
		}
		wg.Go(func() { b.call(ada, "DELETE", "/v1/collections/"+second, nil).is(204) })
		wg.Wait()
		var late int
		require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM item_revisions r JOIN items i ON i.id = r.item_id
			JOIN outbox o ON o.aggregate_id = i.id AND (o.payload -> 'data' ->> 'entity_version')::bigint = r.version
			JOIN outbox d ON d.aggregate_id = $1 AND d.payload ->> 'event_type' = 'CollectionDeleted'
			WHERE o.payload -> 'entity' ->> 'collection_id' = $1::text AND o.id > d.id`, second).Scan(&late))
		require.Zero(t, late, "came into a deleted collection")
	}
}
