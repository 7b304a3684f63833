package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
)

// TestEveryWriteLeavesOneEvent walks through every write and looks at what each one left in the outbox.
func TestEveryWriteLeavesOneEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	seen := 0
	write := func(user *account, method, path string, body any) (answer, []event.Envelope) {
		t.Helper()
		nudges := b.nudges.Load()
		a := b.call(user, method, path, body, header("traceparent", parent))
		require.Less(t, a.status, 300, string(a.raw))
		all := b.envelopes()
		fresh := all[seen:]
		seen = len(all)
		for _, e := range fresh {
			require.Equal(t, user.id, e.ActorUserID.String())
			require.Equal(t, "0af7651916cd43dd8448eb211c80319c", *e.TraceID)
		}
		require.Greater(t, b.nudges.Load(), nudges)
		return a, fresh
	}
	one := func(events []event.Envelope, want event.Type, entity event.EntityType, id, collection string) map[string]any {
		t.Helper()
		require.Len(t, events, 1)
		e := events[0]
		require.Equal(t, want, e.EventType)
		require.Equal(t, entity, e.Entity.Type)
		if id != "" {
			require.Equal(t, id, e.Entity.ID.String())
		}
		require.Equal(t, collection, e.Entity.CollectionID.String())
		var data map[string]any
		require.NoError(t, json.Unmarshal(e.Data, &data))
		return data
	}

	a, events := write(ada, "POST", "/v1/collections", map[string]any{"name": "c"})
	c := a.id()
	require.InDelta(t, 1, one(events, event.CollectionCreated, event.EntityCollection, c, c)["entity_version"], 0)
	_, events = write(ada, "PATCH", "/v1/collections/"+c, map[string]any{"name": "d"})
	data := one(events, event.CollectionUpdated, event.EntityCollection, c, c)
	require.Equal(t, []any{"name"}, data["changed_fields"])
	require.InDelta(t, 2, data["entity_version"], 0)
	_, events = write(ada, "PATCH", "/v1/collections/"+c, map[string]any{"name": "d"})
	require.Empty(t, events, "nothing changed")

	members := "/v1/collections/" + c + "/members"
	_, events = write(ada, "POST", members, map[string]any{"email": eve.email, "role": "viewer"})
	data = one(events, event.MembershipAdded, event.EntityMembership, "", c)
	membership := events[0].Entity.ID.String()
	require.Equal(t, eve.id, data["user_id"])
	_, events = write(ada, "PATCH", members+"/"+eve.id, map[string]any{"role": "editor"})
	data = one(events, event.MembershipRoleChanged, event.EntityMembership, membership, c)
	require.Equal(t, "viewer", data["previous_role"])
	require.Equal(t, "editor", data["role"])
	_, events = write(ada, "PATCH", members+"/"+eve.id, map[string]any{"role": "editor"})
	require.Empty(t, events)

	a, events = write(eve, "POST", "/v1/items", map[string]any{"collection_id": c, "title": "t", "content": "x", "source_url": "http://a.b/", "tags": []string{"x"}})
	item := a.id()
	data = one(events, event.ItemCreated, event.EntityItem, item, c)
	require.Equal(t, "http://a.b/", data["source_url"])
	require.Equal(t, []any{"title", "content", "source_url", "tags", "metadata"}, data["changed_fields"])
	_, events = write(eve, "PATCH", "/v1/items/"+item, map[string]any{"tags": []string{"y"}})
	data = one(events, event.ItemUpdated, event.EntityItem, item, c)
	require.Equal(t, []any{"tags"}, data["changed_fields"])
	require.InDelta(t, 2, data["entity_version"], 0)
	_, events = write(eve, "PATCH", "/v1/items/"+item, map[string]any{"source_url": nil, "content": "z"})
	data = one(events, event.ItemUpdated, event.EntityItem, item, c)
	require.Equal(t, []any{"content", "source_url"}, data["changed_fields"])
	require.Nil(t, data["source_url"])
	_, events = write(eve, "DELETE", "/v1/items/"+item, nil)
	require.InDelta(t, 4, one(events, event.ItemDeleted, event.EntityItem, item, c)["entity_version"], 0)

	a, events = write(eve, "POST", "/v1/jobs", map[string]any{"type": "reindex", "parameters": map[string]any{"collection_id": c}})
	data = one(events, event.JobCreated, event.EntityJob, a.id(), c)
	require.Equal(t, "QUEUED", data["state"])

	_, events = write(ada, "DELETE", members+"/"+eve.id, nil)
	require.InDelta(t, 3, one(events, event.MembershipRemoved, event.EntityMembership, membership, c)["entity_version"], 0)

	b.item(ada, c, "left")
	b.item(ada, c, "left too")
	seen += 2
	_, events = write(ada, "DELETE", "/v1/collections/"+c, nil)
	require.Len(t, events, 2, "the items are the purge's work")
	require.InDelta(t, 3, one(events[:1], event.CollectionDeleted, event.EntityCollection, c, c)["entity_version"], 0)
	data = one(events[1:], event.JobCreated, event.EntityJob, "", c)
	require.Equal(t, "purge", data["job_type"])
	require.Equal(t, "QUEUED", data["state"])
	b.call(ada, "GET", "/v1/collections/"+c, nil).problem(404, "not-found")
	require.Empty(t, b.call(ada, "GET", "/v1/search?q=left", nil).is(200).items())
}

// TestOutboxOrderIsVersionOrder lets writers race for the same items: the outbox must have each item's versions in order, without gaps.
func TestOutboxOrderIsVersionOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	collection := b.collection(ada, "c")
	items := []string{b.item(ada, collection, "a"), b.item(ada, collection, "b")}
	var wg sync.WaitGroup
	for writer := range 8 {
		wg.Go(func() {
			for i := range 12 {
				b.call(ada, "PATCH", "/v1/items/"+items[(writer+i)%2], map[string]any{"title": fmt.Sprintf("%d %d", writer, i)})
			}
		})
	}
	wg.Wait()
	last := make(map[uuid.UUID]float64)
	for _, e := range b.envelopes() {
		if e.Entity.Type != event.EntityItem {
			continue
		}
		var data map[string]any
		require.NoError(t, json.Unmarshal(e.Data, &data))
		require.InDelta(t, last[e.Entity.ID]+1, data["entity_version"], 0)
		last[e.Entity.ID]++
	}
	for _, item := range items {
		require.InDelta(t, 49, last[uuid.MustParse(item)], 0)
	}
}

func TestTraceOfAnEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	for _, tt := range []struct {
		name, traceparent, requestID string
		wantTrace, wantRequestID     string // patterns
	}{
		{"none", "", "", "^[0-9a-f]{32}$", "^[0-9a-f]{32}$"},
		{"traceparent", "00-" + strings.Repeat("ab", 16) + "-" + strings.Repeat("1", 16) + "-01", "", "^(ab){16}$", "^(ab){16}$"},
		{"request id", "", "req-7", "^req-7$", "^req-7$"},
		{"both", "00-" + strings.Repeat("ab", 16) + "-" + strings.Repeat("1", 16) + "-01", "req-7", "^(ab){16}$", "^req-7$"},
		{"zero trace", "00-" + strings.Repeat("0", 32) + "-" + strings.Repeat("1", 16) + "-01", "", "^[0-9a-f]{32}$", "^[0-9a-f]{32}$"},
		{"malformed", "00-xyz-1-01", "a b\t", "^[0-9a-f]{32}$", "^[0-9a-f]{32}$"},
	} {
		a := b.call(ada, "POST", "/v1/collections", map[string]any{"name": tt.name}, header("traceparent", tt.traceparent), header("X-Request-Id", tt.requestID)).is(201)
		require.Regexp(t, tt.wantRequestID, a.header.Get("X-Request-Id"), tt.name)
		all := b.envelopes()
		require.Regexp(t, tt.wantTrace, *all[len(all)-1].TraceID, tt.name)
		var parent string
		require.NoError(t, b.pool.QueryRow(t.Context(), "SELECT traceparent FROM outbox ORDER BY id DESC LIMIT 1").Scan(&parent))
		require.Regexp(t, `^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$`, parent, tt.name)
		require.NotContains(t, parent, strings.Repeat("0", 32), tt.name)
	}
}
