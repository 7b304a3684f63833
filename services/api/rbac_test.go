package api_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRights checks every operation on a collection and on what is in it for every role.
func TestRights(t *testing.T) {
	t.Parallel()
	b := setup(t)
	owner, editor, viewer, stranger, admin := b.account("owner"), b.account("editor"), b.account("viewer"), b.account("stranger"), b.admin("admin")
	guest := b.account("guest")
	operator := b.operator()
	collection := b.collection(owner, "shared")
	b.member(owner, collection, editor, "editor")
	b.member(owner, collection, viewer, "viewer")
	job := b.call(owner, "POST", "/v1/jobs", map[string]any{"type": "reindex", "parameters": map[string]any{"collection_id": collection}}).is(202).id()
	callers := []*account{owner, editor, viewer, stranger, admin, operator}
	names := []string{"owner", "editor", "viewer", "stranger", "admin", "operator"}

	newItem := func() string { return b.item(owner, collection, "an item") }
	none := func() string { return "" }
	noMember := func() string {
		b.call(owner, "DELETE", "/v1/collections/"+collection+"/members/"+guest.id, nil)
		return ""
	}
	guestMember := func() string {
		b.call(owner, "POST", "/v1/collections/"+collection+"/members", map[string]any{"email": guest.email, "role": "viewer"})
		return guest.id
	}
	newCollection := func() string {
		id := b.collection(owner, "to delete")
		b.member(owner, id, editor, "editor")
		b.member(owner, id, viewer, "viewer")
		return id
	}
	for _, tt := range []struct {
		name, method, path string // {} is what prepare returned
		prepare            func() string
		body               any
		want               [6]int // owner, editor, viewer, stranger, admin (no member), operator
	}{
		{"get collection", "GET", "/v1/collections/" + collection, none, nil, [6]int{200, 200, 200, 404, 404, 404}},
		{"patch collection", "PATCH", "/v1/collections/" + collection, none, map[string]any{"name": "renamed"}, [6]int{200, 403, 403, 404, 404, 404}},
		{"delete collection", "DELETE", "/v1/collections/{}", newCollection, nil, [6]int{204, 403, 403, 404, 404, 404}},
		{"list members", "GET", "/v1/collections/" + collection + "/members", none, nil, [6]int{200, 200, 200, 404, 404, 404}},
		{
			"add member", "POST", "/v1/collections/" + collection + "/members", noMember,
			map[string]any{"email": guest.email, "role": "viewer"},
			[6]int{201, 403, 403, 404, 404, 404},
		},
		{
			"change member", "PATCH", "/v1/collections/" + collection + "/members/{}", guestMember,
			map[string]any{"role": "editor"},
			[6]int{200, 403, 403, 404, 404, 404},
		},
		{"remove member", "DELETE", "/v1/collections/" + collection + "/members/{}", guestMember, nil, [6]int{204, 403, 403, 404, 404, 404}},
		{
			"create item", "POST", "/v1/items", none,
			map[string]any{"collection_id": collection, "title": "t", "content": ""},
			[6]int{201, 201, 403, 404, 404, 404},
		},
		{"get item", "GET", "/v1/items/{}", newItem, nil, [6]int{200, 200, 200, 404, 404, 404}},
		{"patch item", "PATCH", "/v1/items/{}", newItem, map[string]any{"title": "changed"}, [6]int{200, 200, 403, 404, 404, 404}},
		{"delete item", "DELETE", "/v1/items/{}", newItem, nil, [6]int{204, 204, 403, 404, 404, 404}},
		{"list items", "GET", "/v1/items?collection_id=" + collection, none, nil, [6]int{200, 200, 200, 404, 404, 404}},
		{"search", "GET", "/v1/search?collection_id=" + collection, none, nil, [6]int{200, 200, 200, 404, 404, 404}},
		{"audit of the collection", "GET", "/v1/audit-events?collection_id=" + collection, none, nil, [6]int{200, 403, 403, 404, 200, 200}},
		{"audit of everything", "GET", "/v1/audit-events", none, nil, [6]int{400, 400, 400, 400, 200, 200}},
		{
			"queue a job", "POST", "/v1/jobs", none,
			map[string]any{"type": "reindex", "parameters": map[string]any{"collection_id": collection}},
			[6]int{202, 202, 403, 404, 202, 202},
		},
		{"list users", "GET", "/v1/users", none, nil, [6]int{403, 403, 403, 403, 200, 200}},
		{"disable a user", "PATCH", "/v1/users/" + guest.id, none, map[string]any{"disabled": true}, [6]int{403, 403, 403, 403, 200, 200}},
		{"enable a user", "PATCH", "/v1/users/" + guest.id, none, map[string]any{"disabled": false}, [6]int{403, 403, 403, 403, 200, 200}},
		{"list tokens", "GET", "/v1/tokens", none, nil, [6]int{200, 200, 200, 200, 200, 403}},
		{"delete a token of nobody", "DELETE", "/v1/tokens/" + collection, none, nil, [6]int{404, 404, 404, 404, 404, 403}},
		{"list sessions", "GET", "/v1/sessions", none, nil, [6]int{200, 200, 200, 200, 200, 403}},
		{"end a session of nobody", "DELETE", "/v1/sessions/" + collection, none, nil, [6]int{404, 404, 404, 404, 404, 403}},
		{"get a job", "GET", "/v1/jobs/" + job, none, nil, [6]int{200, 200, 403, 404, 200, 200}},
		{"list the collection's jobs", "GET", "/v1/jobs?collection_id=" + collection, none, nil, [6]int{200, 200, 403, 404, 200, 200}},
	} {
		for i, user := range callers {
			path := strings.ReplaceAll(tt.path, "{}", tt.prepare())
			before := len(b.envelopes())
			a := b.call(user, tt.method, path, tt.body)
			require.Equal(t, tt.want[i], a.status, "%s as %s: %s", tt.name, names[i], a.raw)
			if a.status >= 400 {
				a.is(a.status)
				require.Len(t, b.envelopes(), before, "%s as %s was refused and must leave no event", tt.name, names[i])
			}
			if a.status == 403 && !strings.HasPrefix(path, "/v1/users") && user != operator {
				require.Contains(t, a.body["detail"], "owner", "says which role is needed")
			}
		}
	}
	require.Len(t, b.call(viewer, "GET", "/v1/jobs", nil).is(200).items(), 0)
	require.NotEmpty(t, b.call(editor, "GET", "/v1/jobs", nil).is(200).items())
	require.NotEmpty(t, b.call(admin, "GET", "/v1/jobs", nil).is(200).items())
	require.Empty(t, b.call(stranger, "GET", "/v1/items", nil).is(200).items())
	require.Empty(t, b.call(stranger, "GET", "/v1/search", nil).is(200).items())
}

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
