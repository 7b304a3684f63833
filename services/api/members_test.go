package api_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRightsChangeAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	owner, guest := b.account("owner"), b.account("guest")
	collection := b.collection(owner, "c")
	item := b.item(owner, collection, "secret plans")
	b.call(guest, "GET", "/v1/items/"+item, nil).problem(404, "not-found")
	b.member(owner, collection, guest, "viewer")
	require.Equal(t, "viewer", b.call(guest, "GET", "/v1/items/"+item, nil).is(200).body["my_role"])
	require.Len(t, b.call(guest, "GET", "/v1/search?q=plans", nil).is(200).items(), 1)
	b.call(guest, "DELETE", "/v1/collections/"+collection+"/members/"+guest.id, nil).is(204)
	b.call(guest, "GET", "/v1/items/"+item, nil).problem(404, "not-found")
	require.Empty(t, b.call(guest, "GET", "/v1/search?q=plans", nil).is(200).items())
	require.Empty(t, b.call(guest, "GET", "/v1/collections", nil).is(200).items())
}

func TestMembers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	owner, guest := b.account("owner"), b.account("guest")
	collection := b.collection(owner, "c")
	members := "/v1/collections/" + collection + "/members"
	b.call(owner, "POST", members, map[string]any{"email": "nobody@example.com", "role": "viewer"}).problem(422, "validation", "/email")
	added := b.call(owner, "POST", members, map[string]any{"email": " " + guest.email, "role": "viewer"})
	added.problem(422, "validation", "/email")
	b.call(owner, "POST", members, map[string]any{"email": strings.ToUpper(guest.email), "role": "viewer"}).is(201)
	b.call(owner, "POST", members, map[string]any{"email": guest.email, "role": "editor"}).problem(409, "already-member")
	require.Len(t, b.call(guest, "GET", members, nil).is(200).items(), 2)
	page := b.call(guest, "GET", members+"?limit=1", nil).is(200)
	require.Equal(t, owner.email, page.items()[0]["email"])
	page = b.call(guest, "GET", members+"?limit=1&cursor="+page.body["next_cursor"].(string), nil).is(200)
	require.Equal(t, guest.email, page.items()[0]["email"])
	require.Nil(t, page.body["next_cursor"])
	require.Equal(t, "editor", b.call(owner, "PATCH", members+"/"+guest.id, map[string]any{"role": "editor"}).is(200).body["role"])

	b.call(owner, "PATCH", members+"/"+owner.id, map[string]any{"role": "viewer"}).problem(409, "last-owner")
	b.call(owner, "DELETE", members+"/"+owner.id, nil).problem(409, "last-owner")
	b.call(owner, "PATCH", members+"/"+guest.id, map[string]any{"role": "owner"}).is(200)
	b.call(owner, "DELETE", members+"/"+owner.id, nil).is(204)
	b.call(guest, "DELETE", members+"/"+guest.id, nil).problem(409, "last-owner")
}

// TestLastOwnerRace has two owners take the role from each other at the same time, many times over: one must stay.
func TestLastOwnerRace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	for range 15 {
		collection := b.collection(ada, "c")
		b.member(ada, collection, eve, "owner")
		members := "/v1/collections/" + collection + "/members/"
		var wg sync.WaitGroup
		var first, second answer
		wg.Go(func() { first = b.call(ada, "PATCH", members+eve.id, map[string]any{"role": "viewer"}) })
		wg.Go(func() { second = b.call(eve, "DELETE", members+ada.id, nil) })
		wg.Wait()
		var owners int
		require.NoError(t, b.pool.QueryRow(t.Context(),
			"SELECT count(*) FROM memberships WHERE collection_id = $1 AND role = 'owner'", collection).Scan(&owners))
		require.Equal(t, 1, owners, "%d %s, %d %s", first.status, first.raw, second.status, second.raw)
	}
}
