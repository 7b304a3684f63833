package api_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
)

// field is one field of an event's data, as JSON.
func field(t *testing.T, data json.RawMessage, name string) string {
	t.Helper()
	var fields map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(data, &fields))
	return string(fields[name])
}

// TestRevisions changes an item in every way and asks for each of its versions again.
func TestRevisions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	collection, other := b.collection(ada, "c"), b.collection(ada, "d")
	b.member(ada, collection, eve, "editor")
	b.member(ada, other, eve, "viewer")
	states := []map[string]any{b.call(ada, "POST", "/v1/items", object{
		"collection_id": collection, "title": "one", "content": "text", "source_url": "http://a.b/", "tags": []string{"x", "y"}, "metadata": object{"a": 1, "b": 2},
	}).is(201).body}
	path := "/v1/items/" + states[0]["id"].(string)
	fields := [][]any{{"title", "content", "source_url", "tags", "metadata"}}
	who := []string{ada.id}
	change := func(user *account, patch object, changed ...any) {
		t.Helper()
		states = append(states, b.call(user, "PATCH", path, patch).is(200).body)
		fields, who = append(fields, changed), append(who, user.id)
	}
	change(eve, object{"title": "two"}, "title")
	change(ada, object{"content": "more\u2028text", "metadata": object{"a": nil}}, "content", "metadata")
	change(eve, object{"tags": []string{"z"}}, "tags")
	change(eve, object{"title": "one", "source_url": nil, "tags": []string{}}, "title", "source_url", "tags")
	b.call(eve, "DELETE", path, nil).is(204)
	states, fields, who = append(states, states[4]), append(fields, []any{"deleted_at"}), append(who, eve.id)
	states = append(states, b.call(ada, "POST", path+"/restore", nil).is(200).body)
	fields, who = append(fields, []any{"deleted_at"}), append(who, ada.id)
	change(ada, object{"collection_id": other}, "collection_id")
	change(ada, object{"metadata": object{"c": object{"d": []any{1, nil}}}, "source_url": "http://c.d/"}, "source_url", "metadata")

	check := func(user *account) {
		t.Helper()
		for i, state := range states {
			revision := b.call(user, "GET", fmt.Sprintf("%s/revisions/%d", path, i+1), nil).is(200).body
			require.InDelta(t, i+1, revision["version"], 0)
			for _, name := range []string{"title", "content", "source_url", "tags", "metadata"} {
				require.Equal(t, state[name], revision[name], "%s of version %d", name, i+1)
			}
			require.Equal(t, fields[i], revision["changed_fields"], "version %d", i+1)
			require.Equal(t, who[i], revision["changed_by"])
			if i != 5 {
				require.Equal(t, state["updated_at"], revision["changed_at"])
			}
		}
		var listed []map[string]any
		for query := "?limit=4"; ; {
			page := b.call(user, "GET", path+"/revisions"+query, nil).is(200)
			listed = append(listed, page.items()...)
			if page.body["next_cursor"] == nil {
				break
			}
			query = "?limit=4&cursor=" + page.body["next_cursor"].(string)
		}
		require.Len(t, listed, len(states))
		for i, revision := range listed {
			version := len(states) - i
			require.InDelta(t, version, revision["version"], 0)
			require.Equal(t, fields[version-1], revision["changed_fields"])
			require.Equal(t, who[version-1], revision["changed_by"])
		}
	}
	check(ada)
	check(eve) // a viewer by now
	stranger := b.account("zoe")
	for _, suffix := range []string{"/revisions", "/revisions/1"} {
		b.call(stranger, "GET", path+suffix, nil).problem(404, "not-found")
	}
	for _, version := range []string{"10", "9223372036854775807"} {
		b.call(ada, "GET", path+"/revisions/"+version, nil).problem(404, "not-found")
		b.call(ada, "POST", path+"/revisions/"+version+"/restore", nil).problem(404, "not-found")
	}
	b.call(ada, "GET", path+"/revisions/0", nil).problem(400, "invalid-request", "version")

	b.call(eve, "POST", path+"/revisions/1/restore", nil).problem(403, "forbidden")
	b.call(ada, "POST", path+"/revisions/1/restore", nil, header("If-Match", `"1"`)).problem(412, "precondition-failed")
	same := b.call(ada, "POST", path+"/revisions/9/restore", nil).is(200)
	require.Equal(t, `"9"`, same.header.Get("ETag"), "nothing changed")
	restored := b.call(ada, "POST", path+"/revisions/3/restore", nil, header("If-Match", `"9"`), header("Idempotency-Key", "k")).is(200)
	require.Equal(t, `"10"`, restored.header.Get("ETag"))
	require.Equal(t, other, restored.body["collection_id"], "it stays where it is")
	for _, name := range []string{"title", "content", "source_url", "tags", "metadata"} {
		require.Equal(t, states[2][name], restored.body[name], name)
	}
	require.Equal(t, restored.body, b.call(ada, "GET", path, nil).is(200).body)
	require.Equal(t, restored.body, b.call(ada, "POST", path+"/revisions/3/restore", nil, header("If-Match", `"9"`), header("Idempotency-Key", "k")).is(200).body)
	events := b.envelopes()
	last := events[len(events)-1]
	require.Equal(t, event.ItemUpdated, last.EventType)
	require.JSONEq(t, `["title","source_url","tags","metadata"]`, field(t, last.Data, "changed_fields"))
	states, who = append(states, restored.body), append(who, ada.id)
	fields = append(fields, []any{"title", "source_url", "tags", "metadata"})
	check(ada)
}

// TestHistoryWithAGap has a version whose change nobody recorded, as the release before wrote them: what was before it can't be told.
func TestHistoryWithAGap(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	path := "/v1/items/" + b.item(ada, b.collection(ada, "c"), "one")
	versions := func() []int {
		t.Helper()
		out := []int{}
		for _, revision := range b.call(ada, "GET", path+"/revisions", nil).is(200).items() {
			out = append(out, int(revision["version"].(float64)))
		}
		return out
	}
	require.Equal(t, []int{1}, versions())
	b.call(ada, "PATCH", path, object{"title": "two"}).is(200)
	_, err := b.pool.Exec(t.Context(), "UPDATE items SET version = version + 1, title = 'three'")
	require.NoError(t, err)
	require.Empty(t, versions(), "not even the newest is known")
	b.call(ada, "GET", path+"/revisions/3", nil).problem(404, "not-found")
	b.call(ada, "PATCH", path, object{"title": "four"}).is(200)
	b.call(ada, "PATCH", path, object{"title": "five"}).is(200)
	require.Equal(t, []int{5, 4}, versions())
	require.Equal(t, "four", b.call(ada, "GET", path+"/revisions/4", nil).is(200).body["title"])
	for _, version := range []string{"1", "2", "3"} {
		b.call(ada, "GET", path+"/revisions/"+version, nil).problem(404, "not-found")
		b.call(ada, "POST", path+"/revisions/"+version+"/restore", nil).problem(404, "not-found")
	}
}
