package api_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// TestStrangersWaitForNobody: what a stranger asks for ends at once, whoever is working on it: neither the time that it takes tells that it is there,
// nor do members have to wait for strangers.
func TestStrangersWaitForNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	c := b.collection(ada, "c")
	item := b.item(ada, c, "one", "tag")
	tag := b.call(ada, "GET", "/v1/collections/"+c+"/tags", nil).is(200).items()[0]["id"].(string)
	own := b.collection(eve, "own")
	mine := b.item(eve, own, "mine")

	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	for _, table := range []string{"collections", "memberships", "items", "tags"} {
		id := map[string]string{"collections": c, "items": item, "tags": tag}[table]
		_, err = tx.Exec(t.Context(), "SELECT 1 FROM "+table+" WHERE id::text = $1 OR $1 = '' FOR UPDATE", id)
		require.NoError(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	in := func(path string) string { return "/v1/collections/" + c + path }
	for _, r := range []struct {
		method, path string
		body         any
	}{
		{"PATCH", in(""), map[string]any{"name": "x"}},
		{"DELETE", in(""), nil},
		{"POST", in("/transfer"), map[string]any{"email": eve.email}},
		{"POST", in("/members"), map[string]any{"email": eve.email, "role": "viewer"}},
		{"PATCH", in("/members/" + ada.id), map[string]any{"role": "viewer"}},
		{"DELETE", in("/members/" + ada.id), nil},
		{"DELETE", in("/members/" + eve.id), nil},
		{"PATCH", in("/tags/" + tag), map[string]any{"name": "x"}},
		{"DELETE", in("/tags/" + tag), nil},
		{"POST", in("/tags/" + tag + "/merge"), map[string]any{"tag_ids": []string{uuid.NewString()}}},
		{"POST", "/v1/items", map[string]any{"collection_id": c, "title": "t", "content": "", "tags": []string{"tag"}}},
		{"PATCH", "/v1/items/" + item, map[string]any{"title": "t"}},
		{"PATCH", "/v1/items/" + mine, map[string]any{"collection_id": c}},
		{"DELETE", "/v1/items/" + item, nil},
		{"POST", "/v1/items/" + item + "/restore", nil},
		{"POST", "/v1/items/" + item + "/revisions/1/restore", nil},
		{"POST", "/v1/jobs", reindex(c)},
	} {
		a := b.call(eve, r.method, r.path, r.body)
		require.Equal(t, 404, a.status, "%s %s: %s", r.method, r.path, a.raw)
	}
	bulk := b.call(eve, "POST", "/v1/items/bulk", map[string]any{"operations": []any{
		map[string]any{"op": "update", "id": item, "patch": map[string]any{"title": "t"}}, map[string]any{"op": "delete", "id": item},
	}, "atomic": true}).is(404)
	require.NotContains(t, string(bulk.raw), "role")
	b.importNDJSON(eve, c, titles(1)).is(404)
	require.NoError(t, ctx.Err(), "somebody waited")
}
