package api_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTransfer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve, bob, stranger, disabled := b.account("ada"), b.account("eve"), b.account("bob"), b.account("stranger"), b.account("disabled")
	_, err := b.pool.Exec(t.Context(), "UPDATE users SET disabled_at = now() WHERE id = $1", disabled.id)
	require.NoError(t, err)
	collection := b.collection(ada, "c")
	b.item(ada, collection, "one")
	b.member(ada, collection, bob, "editor")
	path := "/v1/collections/" + collection + "/transfer"
	to := func(email string) map[string]any { return map[string]any{"email": email} }
	events := len(b.envelopes())

	b.call(bob, "POST", path, to(eve.email)).problem(403, "forbidden")
	b.call(stranger, "POST", path, to(eve.email)).problem(404, "not-found")
	b.call(b.operator(), "POST", path, to(eve.email)).problem(404, "not-found")
	b.call(ada, "POST", path, to("nobody@example.com")).problem(422, "validation", "/email")
	b.call(ada, "POST", path, to(disabled.email)).problem(422, "validation", "/email")
	b.call(ada, "POST", path, to("no e-mail")).problem(422, "validation", "/email")
	b.call(ada, "POST", path, map[string]any{}).problem(422, "validation", "/email")
	b.call(ada, "POST", path, to(ada.email)).problem(409, "already-owner")
	require.Len(t, b.envelopes(), events, "what was refused leaves no event")

	a := b.call(ada, "POST", path, to("EVE@example.com")).is(200)
	require.Equal(t, collection, a.id())
	require.Equal(t, "editor", a.body["my_role"])
	require.InDelta(t, 3, a.body["member_count"], 0)
	require.InDelta(t, 1, a.body["item_count"], 0)
	require.Equal(t, "owner", b.call(eve, "GET", "/v1/collections/"+collection, nil).is(200).body["my_role"])
	b.call(ada, "POST", path, to(ada.email)).problem(403, "forbidden")
}

// TestEveryChangeOfAMembershipHasItsEvent walks through every way in which a membership begins, changes or ends.
func TestEveryChangeOfAMembershipHasItsEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve, bob := b.account("ada"), b.account("eve"), b.account("bob")
	names := map[string]string{ada.id: "ada", eve.id: "eve", bob.id: "bob"}
	collection := b.collection(ada, "c")
	members, transfer := "/v1/collections/"+collection+"/members", "/v1/collections/"+collection+"/transfer"
	seen := 0
	expect := func(want ...string) {
		t.Helper()
		all := b.membershipEvents(names)
		require.Equal(t, want, all[seen:])
		seen = len(all)
	}
	b.member(ada, collection, eve, "viewer")
	expect("MembershipAdded eve viewer")
	b.call(ada, "PATCH", members+"/"+eve.id, map[string]any{"role": "editor"}).is(200)
	expect("MembershipRoleChanged eve editor<viewer")
	b.call(ada, "POST", transfer, map[string]any{"email": eve.email}).is(200)
	expect("MembershipRoleChanged eve owner<editor", "MembershipRoleChanged ada editor<owner")
	b.call(eve, "POST", transfer, map[string]any{"email": bob.email}).is(200)
	expect("MembershipAdded bob owner", "MembershipRoleChanged eve editor<owner")
	b.call(bob, "PATCH", members+"/"+ada.id, map[string]any{"role": "owner"}).is(200)
	expect("MembershipRoleChanged ada owner<editor")
	b.call(bob, "POST", transfer, map[string]any{"email": ada.email}).is(200) // an owner already
	expect("MembershipRoleChanged bob editor<owner")
	b.call(bob, "DELETE", members+"/"+bob.id, nil).is(204) // leaves
	expect("MembershipRemoved bob editor")
	b.call(ada, "DELETE", members+"/"+eve.id, nil).is(204) // is removed
	expect("MembershipRemoved eve editor")
	b.call(ada, "DELETE", members+"/"+ada.id, nil).problem(409, "last-owner")
	expect([]string{}...)
}

// TestTransferRaces has two owners transfer to each other, leave and demote each other at the same time: somebody who can log in owns it still.
func TestTransferRaces(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve, off := b.account("ada"), b.account("eve"), b.account("off")
	type change func(members, transfer string) answer
	transferTo := func(from, to *account) change {
		return func(_, transfer string) answer {
			return b.call(from, "POST", transfer, map[string]any{"email": to.email})
		}
	}
	leave := func(who *account) change {
		return func(members, _ string) answer { return b.call(who, "DELETE", members+"/"+who.id, nil) }
	}
	demote := func(who, whom *account) change {
		return func(members, _ string) answer {
			return b.call(who, "PATCH", members+"/"+whom.id, map[string]any{"role": "viewer"})
		}
	}
	for name, race := range map[string][]change{
		"to each other":       {transferTo(ada, eve), transferTo(eve, ada)},
		"transfer and leave":  {transferTo(ada, eve), leave(eve)},
		"both leave":          {leave(ada), leave(eve)},
		"transfer and demote": {transferTo(ada, eve), demote(ada, eve), demote(eve, ada), leave(eve), leave(ada)},
	} {
		for range 6 {
			collection := b.collection(ada, name)
			b.member(ada, collection, eve, "owner")
			b.member(ada, collection, off, "owner")
			_, err := b.pool.Exec(t.Context(), "UPDATE users SET disabled_at = now() WHERE id = $1", off.id)
			require.NoError(t, err)
			members, transfer := "/v1/collections/"+collection+"/members", "/v1/collections/"+collection+"/transfer"
			var racers sync.WaitGroup
			for _, change := range race {
				racers.Go(func() {
					if a := change(members, transfer); a.status >= 500 {
						t.Errorf("%s: %d %s", name, a.status, a.raw)
					}
				})
			}
			racers.Wait()
			var owners int
			require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM memberships m JOIN users u ON u.id = m.user_id
				WHERE m.collection_id = $1 AND m.role = 'owner' AND u.disabled_at IS NULL`, collection).Scan(&owners))
			require.Positive(t, owners, name)
			_, err = b.pool.Exec(t.Context(), "UPDATE users SET disabled_at = NULL WHERE id = $1", off.id)
			require.NoError(t, err)
		}
	}
}
