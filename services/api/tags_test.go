package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
)

func (b *testBundle) tags(user *account, collection, query string) map[string]map[string]any {
	b.t.Helper()
	out := map[string]map[string]any{}
	for _, tag := range b.call(user, "GET", "/v1/collections/"+collection+"/tags?limit=100&"+query, nil).is(200).items() {
		out[tag["name"].(string)] = tag
	}
	return out
}

func (b *testBundle) tagPath(user *account, collection, name string) string {
	b.t.Helper()
	tag := b.tags(user, collection, "")[name]
	require.NotNil(b.t, tag, name)
	return "/v1/collections/" + collection + "/tags/" + tag["id"].(string)
}

func (b *testBundle) get(user *account, item string) map[string]any {
	b.t.Helper()
	return b.call(user, "GET", "/v1/items/"+item, nil).is(200).body
}

func dataOf(t *testing.T, e event.Envelope) map[string]any {
	t.Helper()
	var data map[string]any
	require.NoError(t, json.Unmarshal(e.Data, &data))
	return data
}

func TestTagList(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	collection := b.collection(ada, "c")
	require.Empty(t, b.tags(ada, collection, ""))
	names := []string{"B", "a%", "a_", "ab", "Ab", "aB", "é", "\U0010FFFFx", "b\\"}
	for i, name := range names {
		b.item(ada, collection, "t", names[:i+1]...)
		require.InDelta(t, 1, b.tags(ada, collection, "")[name]["item_count"], 0)
	}
	b.item(eve, b.collection(eve, "other"), "t", "a elsewhere")
	trashed := b.item(ada, collection, "t", "B", "trash only")
	b.call(ada, "DELETE", "/v1/items/"+trashed, nil).is(204)
	names = append(names, "trash only")
	slices.Sort(names)

	walk := func(query string) (got []string) {
		path := "/v1/collections/" + collection + "/tags?limit=3" + query
		for next := path; ; {
			a := b.call(ada, "GET", next, nil).is(200)
			for _, tag := range a.items() {
				got = append(got, tag["name"].(string))
			}
			cursor, more := a.body["next_cursor"].(string)
			if !more {
				return got
			}
			next = path + "&cursor=" + cursor
		}
	}
	require.Equal(t, names, walk(""))
	require.Equal(t, []string{"Ab", "a%", "aB", "a_", "ab"}, walk("&prefix=A"))
	require.Equal(t, []string{"Ab", "aB", "ab"}, walk("&prefix=ab"))
	require.Equal(t, []string{"a%"}, walk("&prefix=a%25"))
	require.Equal(t, []string{"b\\"}, walk("&prefix=b%5C"))
	require.Equal(t, []string{"\U0010FFFFx"}, walk("&prefix="+url.QueryEscape("\U0010FFFF")))
	require.Empty(t, walk("&prefix=abc"))
	counts := b.tags(ada, collection, "")
	require.InDelta(t, 9, counts["B"]["item_count"], 0)
	require.InDelta(t, 0, counts["trash only"]["item_count"], 0)

	cursor := b.call(ada, "GET", "/v1/collections/"+collection+"/tags?limit=1", nil).is(200).body["next_cursor"].(string)
	b.call(ada, "GET", "/v1/collections/"+collection+"/tags?limit=1&prefix=a&cursor="+cursor, nil).problem(400, "invalid-request", "cursor")
	b.call(eve, "GET", "/v1/collections/"+collection+"/tags", nil).problem(404, "not-found")
	b.call(ada, "GET", "/v1/collections/"+uuid.NewString()+"/tags", nil).problem(404, "not-found")
}

func TestTagRights(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, viewer, editor, stranger := b.account("ada"), b.account("viewer"), b.account("editor"), b.account("stranger")
	collection := b.collection(ada, "c")
	b.member(ada, collection, viewer, "viewer")
	b.member(ada, collection, editor, "editor")
	b.item(ada, collection, "t", "a", "b", "c")
	require.Len(t, b.tags(viewer, collection, ""), 3)
	path := b.tagPath(viewer, collection, "a")
	merge := map[string]any{"tag_ids": []any{b.tags(ada, collection, "")["b"]["id"]}}
	for _, tt := range []struct {
		method, path string
		body         any
		want         int
	}{{"PATCH", path, map[string]any{"name": "z"}, 200}, {"POST", path + "/merge", merge, 200}, {"DELETE", path, nil, 204}} {
		a := b.call(viewer, tt.method, tt.path, tt.body).problem(403, "forbidden")
		require.Contains(t, a.body["detail"], "owner or editor")
		b.call(stranger, tt.method, tt.path, tt.body).problem(404, "not-found")
		b.call(editor, tt.method, tt.path, tt.body).is(tt.want)
	}
}

// changedItems are the items of the ItemUpdated events since the outbox had so many rows, with their versions.
func (b *testBundle) changedItems(since int) map[string]float64 {
	b.t.Helper()
	out := map[string]float64{}
	for _, e := range b.envelopes()[since:] {
		require.Equal(b.t, event.ItemUpdated, e.EventType)
		require.Contains(b.t, string(e.Data), `"changed_fields":["tags"]`)
		version := dataOf(b.t, e)["entity_version"].(float64)
		require.NotContains(b.t, out, e.Entity.ID.String(), "one event an item")
		out[e.Entity.ID.String()] = version
	}
	return out
}

func TestRenameTag(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	collection := b.collection(ada, "c")
	b.member(ada, collection, eve, "editor")
	with, both, without := b.item(ada, collection, "with", "old"), b.item(ada, collection, "both", "old", "Other"), b.item(ada, collection, "without", "Other")
	trashed := b.item(ada, collection, "trashed", "old")
	b.call(ada, "DELETE", "/v1/items/"+trashed, nil).is(204)
	elsewhere := b.collection(ada, "elsewhere")
	path, other := b.tagPath(ada, collection, "old"), b.tags(ada, collection, "")["Other"]["id"].(string)
	before := len(b.envelopes())

	for _, name := range []string{"old", "  old\t"} {
		require.Equal(t, "old", b.call(ada, "PATCH", path, map[string]any{"name": name}).is(200).body["name"])
	}
	a := b.call(ada, "PATCH", path, map[string]any{"name": " Other "}).problem(409, "tag-exists")
	require.Contains(t, a.body["detail"], other)
	require.Contains(t, a.body["detail"], "mergeTags")
	b.call(ada, "PATCH", path, map[string]any{"name": "\u00a0"}).problem(422, "validation", "/name")
	b.call(ada, "PATCH", path, map[string]any{"name": ""}).problem(422, "validation", "/name")
	b.call(ada, "PATCH", path, map[string]any{"name": strings.Repeat("x", 101)}).problem(422, "validation", "/name")
	b.call(ada, "PATCH", path, `{"name":"a\u0000"}`).problem(422, "validation", "/name")
	b.call(ada, "PATCH", "/v1/collections/"+collection+"/tags/"+uuid.NewString(), map[string]any{"name": "x"}).problem(404, "not-found")
	b.call(ada, "PATCH", strings.Replace(path, collection, elsewhere, 1), map[string]any{"name": "x"}).problem(404, "not-found")
	require.Len(t, b.envelopes(), before, "nothing changed")

	a = b.call(eve, "PATCH", path, map[string]any{"name": " new "}, header("Content-Type", "application/merge-patch+json")).is(200)
	require.Equal(t, map[string]any{"id": path[strings.LastIndex(path, "/")+1:], "name": "new", "item_count": 2.0}, a.body)
	require.Equal(t, map[string]float64{with: 2, both: 2, trashed: 3}, b.changedItems(before), "in the trash too: each version is announced")
	got := b.get(ada, both)
	require.Equal(t, []any{"Other", "new"}, got["tags"])
	require.Equal(t, eve.id, got["updated_by"])
	require.InDelta(t, 1, b.get(ada, without)["version"], 0)
	revision := b.call(ada, "GET", "/v1/items/"+both+"/revisions/1", nil).is(200)
	require.Equal(t, []any{"Other", "old"}, revision.body["tags"])
	newest := b.call(ada, "GET", "/v1/items/"+both+"/revisions", nil).is(200).items()[0]
	require.Equal(t, []any{"tags"}, newest["changed_fields"])
	require.Equal(t, eve.id, newest["changed_by"])

	// What is in the trash got the name too, says still who deleted it, and has its history.
	in := b.call(ada, "GET", "/v1/trash", nil).is(200).items()
	require.Equal(t, ada.id, in[0]["deleted_by"])
	restored := b.call(ada, "POST", "/v1/items/"+trashed+"/restore", nil).is(200)
	require.Equal(t, []any{"new"}, restored.body["tags"])
	require.InDelta(t, 4, restored.body["version"], 0)
	require.Equal(t, []any{"old"}, b.call(ada, "GET", "/v1/items/"+trashed+"/revisions/1", nil).is(200).body["tags"])
	require.Equal(t, []any{"old"}, b.call(ada, "POST", "/v1/items/"+trashed+"/revisions/1/restore", nil).is(200).body["tags"])
}

func TestDeleteTag(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	collection := b.collection(ada, "c")
	item, other := b.item(ada, collection, "t", "a", "b"), b.item(ada, collection, "t", "b")
	trashed := b.item(ada, collection, "t", "a")
	b.call(ada, "DELETE", "/v1/items/"+trashed, nil).is(204)
	path, before := b.tagPath(ada, collection, "a"), len(b.envelopes())
	b.call(ada, "DELETE", path, nil).is(204)
	b.call(ada, "DELETE", path, nil).problem(404, "not-found")
	require.Equal(t, map[string]float64{item: 2, trashed: 3}, b.changedItems(before))
	require.Equal(t, []any{"b"}, b.get(ada, item)["tags"])
	require.InDelta(t, 1, b.get(ada, other)["version"], 0)
	require.Equal(t, []any{"a", "b"}, b.call(ada, "GET", "/v1/items/"+item+"/revisions/1", nil).is(200).body["tags"])
	require.Equal(t, []any{}, b.call(ada, "POST", "/v1/items/"+trashed+"/restore", nil).is(200).body["tags"])
	require.Equal(t, []any{"a"}, b.call(ada, "POST", "/v1/items/"+trashed+"/revisions/1/restore", nil).is(200).body["tags"])
	require.Equal(t, []string{"a", "b"}, slices.Sorted(maps.Keys(b.tags(ada, collection, ""))))
}

func TestMergeTags(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	collection, elsewhere := b.collection(ada, "c"), b.collection(ada, "elsewhere")
	b.item(ada, elsewhere, "t", "foreign")
	items := map[string]string{}
	for name, tags := range map[string][]string{"one": {"one"}, "two": {"two", "x"}, "all": {"one", "two", "target"}, "target": {"target"}, "x": {"x"}} {
		items[name] = b.item(ada, collection, name, tags...)
	}
	trashed := b.item(ada, collection, "trashed", "one", "target")
	b.call(ada, "DELETE", "/v1/items/"+trashed, nil).is(204)
	tags, path, before := b.tags(ada, collection, ""), b.tagPath(ada, collection, "target")+"/merge", len(b.envelopes())
	ids := func(names ...string) map[string]any {
		list := []any{}
		for _, name := range names {
			list = append(list, tags[name]["id"])
		}
		return map[string]any{"tag_ids": list}
	}
	b.call(ada, "POST", path, ids("one", "target")).problem(422, "validation", "/tag_ids/1")
	b.call(ada, "POST", path, ids()).problem(422, "validation", "/tag_ids")
	foreign := b.tags(ada, elsewhere, "")["foreign"]["id"]
	a := b.call(ada, "POST", path, map[string]any{"tag_ids": []any{tags["one"]["id"], foreign, uuid.NewString()}})
	a.problem(404, "not-found", "/tag_ids/1", "/tag_ids/2")
	b.call(ada, "POST", strings.Replace(path, tags["target"]["id"].(string), uuid.NewString(), 1), ids("one")).problem(404, "not-found")
	require.Len(t, b.envelopes(), before, "nothing changed")

	key := header("Idempotency-Key", "merge-1")
	merged := b.call(ada, "POST", path, ids("one", "two", "one"), key).is(200)
	require.Equal(t, map[string]any{"id": tags["target"]["id"], "name": "target", "item_count": 4.0}, merged.body)
	require.Equal(t, map[string]float64{items["one"]: 2, items["two"]: 2, items["all"]: 2, trashed: 3}, b.changedItems(before))
	require.Equal(t, []any{"target"}, b.get(ada, items["one"])["tags"])
	require.Equal(t, []any{"target", "x"}, b.get(ada, items["two"])["tags"])
	require.Equal(t, []any{"target"}, b.get(ada, items["all"])["tags"])
	require.Equal(t, []any{"one", "target", "two"}, b.call(ada, "GET", "/v1/items/"+items["all"]+"/revisions/1", nil).is(200).body["tags"])
	require.Equal(t, []string{"target", "x"}, slices.Sorted(maps.Keys(b.tags(ada, collection, ""))))
	require.Equal(t, []any{"target"}, b.call(ada, "POST", "/v1/items/"+trashed+"/restore", nil).is(200).body["tags"])

	again := b.call(ada, "POST", path, ids("one", "two", "one"), key).is(200)
	require.Equal(t, merged.body, again.body)
	require.Equal(t, "true", again.header.Get("Idempotency-Replayed"))
	b.call(ada, "POST", path, ids("one", "two")).problem(404, "not-found")
}

// TestTagChangesAndItemWritersTogether renames, merges and deletes tags while items get and lose them. Nothing may fail, and in the end every
// item's history must lead from its first state to its last, step by step.
func TestTagChangesAndItemWritersTogether(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	collection := b.collection(ada, "c")
	names := []string{"a", "b", "c", "d", "e"}
	some := func() []string {
		tags := slices.Clone(names)
		rand.Shuffle(len(tags), func(i, j int) { tags[i], tags[j] = tags[j], tags[i] })
		return tags[:rand.IntN(len(tags)+1)]
	}
	var items []string
	for i := range 12 {
		items = append(items, b.item(ada, collection, fmt.Sprint(i), names[:i%5]...))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	statuses := map[string]int{}
	count := func(what string, a answer) {
		mu.Lock()
		defer mu.Unlock()
		statuses[fmt.Sprintf("%s %d", what, a.status)]++
	}
	for range 6 {
		wg.Go(func() {
			for i := range 40 {
				if i%8 == 7 {
					count("create", b.call(ada, "POST", "/v1/items", map[string]any{"collection_id": collection, "title": "new", "content": "", "tags": some()}))
				} else {
					count("update", b.call(ada, "PATCH", "/v1/items/"+items[rand.IntN(len(items))], map[string]any{"tags": some()}))
				}
			}
		})
	}
	for range 3 {
		wg.Go(func() {
			for range 25 {
				var ids []string
				for _, tag := range b.tags(ada, collection, "") {
					ids = append(ids, tag["id"].(string))
				}
				if len(ids) < 3 {
					continue
				}
				path := "/v1/collections/" + collection + "/tags/" + ids[0]
				switch rand.IntN(4) {
				case 0:
					count("delete", b.call(ada, "DELETE", path, nil))
				case 1:
					count("merge", b.call(ada, "POST", path+"/merge", map[string]any{"tag_ids": ids[1:3]}))
				default:
					count("rename", b.call(ada, "PATCH", path, map[string]any{"name": names[rand.IntN(len(names))]}))
				}
			}
		})
	}
	wg.Wait()
	t.Log(statuses)
	for status := range statuses {
		require.Contains(t, []string{
			"create 201", "update 200", "delete 204", "delete 404", "merge 200", "merge 404", "rename 200", "rename 404", "rename 409",
		}, status, statuses)
	}
	// Versions have no gaps, and each has its event and its revision.
	rows, err := b.pool.Query(t.Context(), `SELECT i.id, i.version, (SELECT count(*) FROM item_revisions r WHERE r.item_id = i.id),
		(SELECT count(*) FROM outbox o WHERE o.aggregate_id = i.id) FROM items i`)
	require.NoError(t, err)
	for rows.Next() {
		var id uuid.UUID
		var version, revisions, events int64
		require.NoError(t, rows.Scan(&id, &version, &revisions, &events))
		require.Equal(t, version, revisions+1)
		require.Equal(t, version, events)
	}
	require.NoError(t, rows.Err())
	versions := map[uuid.UUID]float64{}
	for _, e := range b.envelopes() {
		if e.Entity.Type == event.EntityItem {
			versions[e.Entity.ID]++
			require.InDelta(t, versions[e.Entity.ID], dataOf(t, e)["entity_version"], 0, "events are in the order of versions")
		}
	}
	// Every change of tags says truly what it replaced: what it says is not what the change after it says, or what there is now.
	for _, item := range items {
		now := b.get(ada, item)
		last := now["tags"]
		for version := int(now["version"].(float64)) - 1; version >= 1; version-- {
			was := b.call(ada, "GET", fmt.Sprintf("/v1/items/%s/revisions/%d", item, version), nil).is(200).body["tags"]
			require.NotEqual(t, last, was, "version %d changed nothing", version+1)
			last = was
		}
	}
}

// TestTagChangesWaitForItemsThatGetTheTag: an item that is getting a tag while the tag is changed changes with it.
func TestTagChangesWaitForItemsThatGetTheTag(t *testing.T) {
	t.Parallel()
	for method, want := range map[string][]any{"PATCH": {"new"}, "DELETE": {}, "POST": {"target"}} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			ada := b.account("ada")
			collection := b.collection(ada, "c")
			b.item(ada, collection, "has it", "old", "target")
			late := b.item(ada, collection, "gets it")
			path, body, status := b.tagPath(ada, collection, "old"), map[string]any{"name": "new"}, 200
			id := path[strings.LastIndex(path, "/")+1:]
			switch method {
			case "POST":
				path, body = b.tagPath(ada, collection, "target")+"/merge", map[string]any{"tag_ids": []string{id}}
			case "DELETE":
				body, status = nil, 204
			}

			tx, err := b.pool.Begin(t.Context())
			require.NoError(t, err)
			defer tx.Rollback(t.Context()) //nolint:errcheck // it is committed, if all goes well
			_, err = tx.Exec(t.Context(), "INSERT INTO item_tags (item_id, tag_id) VALUES ($1, $2)", late, id)
			require.NoError(t, err)
			done := make(chan answer)
			go func() {
				if body == nil {
					done <- b.call(ada, method, path, nil)
				} else {
					done <- b.call(ada, method, path, body)
				}
			}()
			require.Eventually(t, func() bool {
				var waiting bool
				err := b.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT 1 FROM pg_stat_activity
					WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waiting)
				return err == nil && waiting
			}, time.Minute, 5*time.Millisecond)
			require.NoError(t, tx.Commit(t.Context()))
			(<-done).is(status)
			got := b.get(ada, late)
			require.Equal(t, want, got["tags"])
			require.InDelta(t, 2, got["version"], 0)
			require.Equal(t, []any{"old"}, b.call(ada, "GET", "/v1/items/"+late+"/revisions/1", nil).is(200).body["tags"])
		})
	}
}
