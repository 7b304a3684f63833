package api_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/transfer"
)

func uuidOf(t *testing.T, id string) uuid.UUID {
	t.Helper()
	out, err := uuid.Parse(id)
	require.NoError(t, err)
	return out
}

type object = map[string]any

func reindex(collection string) object {
	return object{"type": "reindex", "parameters": object{"collection_id": collection}}
}

// The answers that most operations have: to everybody with an account; to members; to those who may write; to owners; to platform admins, as whom
// Atlas's own parts count; and to people, not to parts of Atlas.
var (
	everybody = [6]int{200, 200, 200, 200, 200, 200}
	viewers   = [6]int{404, 200, 200, 200, 404, 404}
	editors   = [6]int{404, 403, 200, 200, 404, 404}
	owners    = [6]int{404, 403, 403, 200, 404, 404}
	admins    = [6]int{403, 403, 403, 403, 200, 200}
	people    = [6]int{200, 200, 200, 200, 200, 403}
	watchers  = [6]int{404, 403, 200, 200, 200, 200} // editors, and whoever looks after the platform
)

// answering replaces the status of those who may.
func answering(status int, want [6]int) [6]int {
	for i, s := range want {
		if s == 200 {
			want[i] = status
		}
	}
	return want
}

// rights is the matrix: a row or more for each operation, in the specification's order.
func (w *world) rights() []right {
	return append(append(w.accountRights(), w.collectionRights()...), w.itemRights()...)
}

func (w *world) accountRights() []right {
	nothing := func(*account) request { return request{} }
	someID := func(*account) request { return request{ids: map[string]string{"id": uuid.NewString()}} }
	refreshToken := func(who *account) request {
		return request{body: object{"refresh_token": w.login(who).refresh}}
	}
	return []right{
		{"register", "", open(201), func(*account) request {
			w.registered++
			return request{body: object{"email": fmt.Sprintf("new%d@example.com", w.registered), "password": testPassword}}
		}},
		{"login", "", open(200), func(*account) request { return request{body: object{"email": w.owner.email, "password": testPassword}} }},
		{"refresh", "", open(200), refreshToken},
		{"logout", "", open(204), refreshToken},
		{"listSessions", "", people, nothing},
		{"revokeSession", "", answering(204, people), func(who *account) request {
			session := w.login(who)
			return request{ids: map[string]string{"id": w.call(&session.account, "GET", "/v1/sessions?limit=1", nil).is(200).items()[0]["id"].(string)}}
		}},
		{"revokeSession", "of somebody else", answering(404, people), someID},
		{"changePassword", "", answering(204, people), func(*account) request {
			return request{body: object{"current_password": testPassword, "new_password": testPassword}}
		}},
		{"getMe", "", people, nothing},
		{"createToken", "", answering(201, people), func(*account) request {
			return request{body: object{"name": "script", "scopes": []string{"read"}, "expires_at": time.Now().Add(time.Hour)}}
		}},
		{"listTokens", "", people, nothing},
		{"deleteToken", "", answering(204, people), func(who *account) request {
			_, id := w.personal(who, "read")
			return request{ids: map[string]string{"id": id}}
		}},
		{"deleteToken", "of somebody else", answering(404, people), someID},
		{"listUsers", "", admins, nothing},
		{"createUser", "", answering(201, admins), func(*account) request {
			w.registered++
			return request{body: object{"email": fmt.Sprintf("made%d@example.com", w.registered), "password": testPassword}}
		}},
		{"updateUser", "", admins, func(*account) request {
			return request{ids: map[string]string{"id": w.guest.id}, body: object{"disabled": false}}
		}},
		{"getKeys", "", open(200), nothing},
	}
}

func (w *world) collectionRights() []right {
	shared := func(*account) request { return request{ids: map[string]string{"id": w.collection}} }
	in := func(query string) func(*account) request {
		return func(*account) request { return request{query: query + "collection_id=" + w.collection} }
	}
	nothing := func(*account) request { return request{} }
	disposable := func() string {
		w.collections++
		id := w.testBundle.collection(w.owner, fmt.Sprintf("disposable %d", w.collections))
		w.member(w.owner, id, w.editor, "editor")
		w.member(w.owner, id, w.viewer, "viewer")
		return id
	}
	guestIn := func(collection string) request {
		w.member(w.owner, collection, w.guest, "viewer")
		return request{ids: map[string]string{"id": collection, "user_id": w.guest.id}}
	}
	withTag := func(tags ...string) (collection string, ids []string) {
		collection = disposable()
		w.item(w.owner, collection, "tagged", tags...)
		for _, tag := range w.call(w.owner, "GET", "/v1/collections/"+collection+"/tags", nil).is(200).items() {
			ids = append(ids, tag["id"].(string))
		}
		return collection, ids
	}
	line := `{"title": "imported"}` + "\n"
	schedule := func(body any) func(*account) request {
		return func(*account) request {
			new := object{"name": "s-" + uuid.NewString(), "cron": "@daily", "job": reindex(w.collection)}
			return request{ids: map[string]string{"id": w.call(w.owner, "POST", "/v1/schedules", new).is(201).id()}, body: body}
		}
	}
	job := func(state string) func(*account) request {
		return func(*account) request {
			id := w.call(w.owner, "POST", "/v1/jobs", reindex(w.collection)).is(202).id()
			_, err := w.pool.Exec(w.t.Context(), "UPDATE jobs SET state = $2 WHERE id = $1", id, state)
			require.NoError(w.t, err)
			return request{ids: map[string]string{"id": id}}
		}
	}
	return []right{
		{"createCollection", "", answering(201, people), func(*account) request { return request{body: object{"name": "mine"}} }},
		{"listCollections", "", everybody, nothing},
		{"getCollection", "", viewers, shared},
		{"updateCollection", "", owners, func(*account) request {
			return request{ids: map[string]string{"id": w.collection}, body: object{"name": "renamed"}}
		}},
		{"deleteCollection", "", answering(204, owners), func(*account) request { return request{ids: map[string]string{"id": disposable()}} }},
		{"transferCollection", "", owners, func(*account) request {
			return request{ids: map[string]string{"id": disposable()}, body: object{"email": w.guest.email}}
		}},
		{"exportNDJSON", "", viewers, shared},
		{"importNDJSON", "", editors, func(*account) request {
			return request{ids: map[string]string{"id": w.collection}, body: line, contentType: "application/x-ndjson"}
		}},
		{"exportMarkdown", "", viewers, shared},
		{"importMarkdown", "", editors, func(*account) request {
			return request{ids: map[string]string{"id": w.collection}, body: markdownZip(w.t), contentType: "application/zip"}
		}},
		{"uploadFile", "", answering(201, watchers), func(*account) request {
			return request{ids: map[string]string{"id": w.collection}, body: line, contentType: "application/octet-stream"}
		}},
		{"listTags", "", viewers, shared},
		{"renameTag", "", editors, func(*account) request {
			collection, tags := withTag("old")
			return request{ids: map[string]string{"id": collection, "tag_id": tags[0]}, body: object{"name": "new"}}
		}},
		{"deleteTag", "", answering(204, editors), func(*account) request {
			collection, tags := withTag("old")
			return request{ids: map[string]string{"id": collection, "tag_id": tags[0]}}
		}},
		{"mergeTags", "", editors, func(*account) request {
			collection, tags := withTag("one", "two")
			return request{ids: map[string]string{"id": collection, "tag_id": tags[0]}, body: object{"tag_ids": tags[1:]}}
		}},
		{"listMembers", "", viewers, shared},
		{"addMember", "", answering(201, owners), func(*account) request {
			return request{ids: map[string]string{"id": disposable()}, body: object{"email": w.guest.email, "role": "viewer"}}
		}},
		{"updateMember", "", owners, func(*account) request {
			r := guestIn(disposable())
			r.body = object{"role": "editor"}
			return r
		}},
		{"removeMember", "", answering(204, owners), func(*account) request { return guestIn(disposable()) }},
		{"removeMember", "oneself", [6]int{404, 204, 204, 409, 404, 404}, func(who *account) request {
			return request{ids: map[string]string{"id": disposable(), "user_id": who.id}}
		}},
		{"search", "", everybody, nothing},
		{"search", "in a collection", viewers, in("")},
		{"suggest", "", everybody, func(*account) request { return request{query: "q=a"} }},
		{"suggest", "in a collection", viewers, in("q=a&")},
		{"listAuditEvents", "of everything", [6]int{400, 400, 400, 400, 200, 200}, nothing},
		{"listAuditEvents", "of a collection", [6]int{404, 403, 403, 200, 200, 200}, in("")},
		{"createJob", "", answering(202, watchers), func(*account) request { return request{body: reindex(w.collection)} }},
		{"listJobs", "", everybody, nothing},
		{"listJobs", "of a collection", watchers, in("")},
		{"getJob", "", watchers, func(*account) request { return request{ids: map[string]string{"id": w.job}} }},
		{"cancelJob", "", watchers, job("QUEUED")},
		{"cancelJob", "that runs", answering(202, watchers), job("RUNNING")},
		{"pauseJob", "", watchers, job("QUEUED")},
		{"pauseJob", "that runs", answering(202, watchers), job("RUNNING")},
		{"resumeJob", "", watchers, job("QUEUED")},
		{"retryJob", "", answering(202, watchers), job("FAILED")},
		{"getJobFile", "", watchers, func(*account) request {
			return request{ids: map[string]string{"id": w.exported(w.owner, w.collection, transfer.NDJSON, line)}}
		}},
		{"createSchedule", "", answering(201, watchers), func(*account) request {
			return request{body: object{"name": "s-" + uuid.NewString(), "cron": "@daily", "job": reindex(w.collection)}}
		}},
		{"listSchedules", "", everybody, nothing},
		{"listSchedules", "of a collection", watchers, in("")},
		{"getSchedule", "", watchers, schedule(nil)},
		{"updateSchedule", "", watchers, schedule(object{"suspended": true})},
		{"deleteSchedule", "", answering(204, watchers), schedule(nil)},
		{"watchJob", "", watchers, job("SUCCEEDED")}, // which ends the stream
	}
}

func (w *world) itemRights() []right {
	nothing := func(*account) request { return request{} }
	in := func(*account) request { return request{query: "collection_id=" + w.collection} }
	newItem := func() string { return w.item(w.owner, w.collection, "an item") }
	item := func(body any) func(*account) request {
		return func(*account) request { return request{ids: map[string]string{"id": newItem()}, body: body} }
	}
	version := func(*account) request { return request{ids: map[string]string{"id": newItem(), "version": "1"}} }
	create := func() object { return object{"collection_id": w.collection, "title": "new", "content": ""} }
	bulk := func(atomic bool) func(*account) request {
		return func(*account) request {
			return request{body: object{"atomic": atomic, "operations": []object{{"op": "create", "item": create()}}}}
		}
	}
	return []right{
		{"createItem", "", answering(201, editors), func(*account) request { return request{body: create()} }},
		{"listItems", "", everybody, nothing},
		{"listItems", "of a collection", viewers, in},
		{"bulkItems", "one by one", everybody, bulk(false)}, // each has its own answer
		{"bulkItems", "at once", editors, bulk(true)},
		{"getItem", "", viewers, item(nil)},
		{"getItemExtract", "", viewers, func(*account) request {
			id := newItem()
			_, err := w.pool.Exec(w.t.Context(), "INSERT INTO item_extracts (item_id) VALUES ($1)", id)
			require.NoError(w.t, err)
			return request{ids: map[string]string{"id": id}}
		}},
		{"updateItem", "", editors, item(object{"title": "changed"})},
		{"deleteItem", "", answering(204, editors), item(nil)},
		{"restoreItem", "", editors, func(*account) request {
			id := newItem()
			w.call(w.owner, "DELETE", "/v1/items/"+id, nil).is(204)
			return request{ids: map[string]string{"id": id}}
		}},
		{"listRevisions", "", viewers, item(nil)},
		{"getRevision", "", viewers, version},
		{"restoreRevision", "", editors, version},
		{"listTrash", "", everybody, nothing},
		{"listTrash", "of a collection", editors, in},
	}
}

// markdownZip is the smallest archive that an import takes.
func markdownZip(t *testing.T) string {
	t.Helper()
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	file, err := archive.Create("note.md")
	require.NoError(t, err)
	_, err = file.Write([]byte("---\ntitle: imported\n---\ntext\n"))
	require.NoError(t, err)
	require.NoError(t, archive.Close())
	return out.String()
}
