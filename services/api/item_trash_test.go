package api_test

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/services/api"
)

func TestTrash(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	collection := b.collection(ada, "c")
	b.member(ada, collection, eve, "viewer")
	created := b.call(ada, "POST", "/v1/items", object{
		"collection_id": collection, "title": "t", "content": "text", "source_url": "http://a.b/", "tags": []string{"x"}, "metadata": object{"a": 1},
	}).is(201)
	path, restore := "/v1/items/"+created.id(), "/v1/items/"+created.id()+"/restore"

	b.call(ada, "POST", restore, nil).problem(409, "not-deleted")
	b.call(eve, "POST", restore, nil).problem(403, "forbidden")
	b.call(ada, "DELETE", path, nil, header("If-Match", `"1"`)).is(204)
	b.call(ada, "GET", path, nil).problem(404, "not-found")
	b.call(ada, "PATCH", path, object{"title": "x"}).problem(404, "not-found")
	b.call(ada, "GET", path+"/revisions", nil).problem(404, "not-found")

	trash := b.call(ada, "GET", "/v1/trash", nil).is(200).items()
	require.Len(t, trash, 1)
	require.Equal(t, created.id(), trash[0]["id"])
	require.Equal(t, ada.id, trash[0]["deleted_by"])
	require.InDelta(t, 2, trash[0]["version"], 0)
	deleted, err := time.Parse(time.RFC3339, trash[0]["deleted_at"].(string))
	require.NoError(t, err)
	purged, err := time.Parse(time.RFC3339, trash[0]["purged_after"].(string))
	require.NoError(t, err)
	require.Equal(t, trashRetention, purged.Sub(deleted))

	b.call(eve, "POST", restore, nil).problem(403, "forbidden")
	b.call(b.account("zoe"), "POST", restore, nil).problem(404, "not-found")
	b.call(ada, "POST", restore, nil, header("If-Match", `"1"`)).problem(412, "precondition-failed")
	restored := b.call(ada, "POST", restore, nil, header("If-Match", `"2"`), header("Idempotency-Key", "once")).is(200)
	require.Equal(t, `"3"`, restored.header.Get("ETag"))
	for _, same := range []string{"title", "content", "source_url", "tags", "metadata", "created_at", "created_by"} {
		require.Equal(t, created.body[same], restored.body[same], same)
	}
	require.Equal(t, restored.body, b.call(ada, "GET", path, nil).is(200).body)
	replayed := b.call(ada, "POST", restore, nil, header("If-Match", `"2"`), header("Idempotency-Key", "once")).is(200)
	require.Equal(t, "true", replayed.header.Get("Idempotency-Replayed"))
	require.Equal(t, restored.body, replayed.body)
	require.Empty(t, b.call(ada, "GET", "/v1/trash", nil).is(200).items())

	events := b.envelopes()
	last := events[len(events)-1]
	require.Equal(t, event.ItemUpdated, last.EventType)
	require.JSONEq(t, `["deleted_at"]`, field(t, last.Data, "changed_fields"))
	require.JSONEq(t, `3`, field(t, last.Data, "entity_version"))

	b.call(ada, "DELETE", path, nil).is(204)
	b.call(ada, "DELETE", "/v1/collections/"+collection, nil).is(204)
	b.call(ada, "POST", restore, nil).problem(404, "not-found")
	require.Empty(t, b.call(ada, "GET", "/v1/trash", nil).is(200).items())
	b.call(ada, "GET", "/v1/trash?collection_id="+collection, nil).problem(404, "not-found")
}

func TestTrashPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	first, second := b.collection(ada, "first"), b.collection(ada, "second")
	b.member(ada, first, eve, "editor")
	b.member(ada, second, eve, "viewer")
	var all, inFirst []string // newest deletion first
	for i := range 9 {
		collection := []string{first, second}[i%2]
		id := b.item(ada, collection, fmt.Sprint(i))
		b.call(ada, "DELETE", "/v1/items/"+id, nil).is(204)
		all = slices.Insert(all, 0, id)
		if i%2 == 0 {
			inFirst = slices.Insert(inFirst, 0, id)
		}
	}
	// Several with one time: the order goes on with the id.
	_, err := b.pool.Exec(t.Context(), "UPDATE items SET deleted_at = (SELECT min(deleted_at) FROM items) WHERE deleted_at IS NOT NULL")
	require.NoError(t, err)
	walk := func(user *account, query url.Values) []string {
		t.Helper()
		var ids []string
		for {
			page := b.call(user, "GET", "/v1/trash?"+query.Encode(), nil).is(200)
			for _, item := range page.items() {
				ids = append(ids, item["id"].(string))
			}
			if page.body["next_cursor"] == nil {
				return ids
			}
			require.Contains(t, page.header.Get("Link"), `rel="next"`)
			query.Set("cursor", page.body["next_cursor"].(string))
		}
	}
	require.Equal(t, all, walk(ada, url.Values{"limit": {"2"}}))
	require.Equal(t, inFirst, walk(ada, url.Values{"limit": {"3"}, "collection_id": {first}}))
	require.Equal(t, inFirst, walk(eve, url.Values{"limit": {"1"}}), "a viewer does not see the trash")
	b.call(eve, "GET", "/v1/trash?collection_id="+second, nil).problem(403, "forbidden")
	b.call(b.account("zoe"), "GET", "/v1/trash?collection_id="+first, nil).problem(404, "not-found")
	b.call(ada, "GET", "/v1/trash?collection_id="+uuid.NewString(), nil).problem(404, "not-found")
	require.Empty(t, b.call(ada, "GET", "/v1/trash?collection_id="+b.collection(ada, "empty"), nil).is(200).items())
	cursor := b.call(ada, "GET", "/v1/trash?limit=1", nil).is(200).body["next_cursor"].(string)
	b.call(ada, "GET", "/v1/trash?collection_id="+first+"&cursor="+cursor, nil).problem(400, "invalid-request", "cursor")
}

func TestTrashRetentionIsChecked(t *testing.T) {
	t.Parallel()
	_, err := config.LoadFrom[api.Config](map[string]string{"JWT_SIGNING_KEY_FILE": "f", "TRASH_RETENTION": "-1h"})
	require.ErrorContains(t, err, "TRASH_RETENTION=-1h0m0s is not usable")
}
