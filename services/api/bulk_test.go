package api_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func bulk(atomic bool, operations ...map[string]any) map[string]any {
	return map[string]any{"atomic": atomic, "operations": operations}
}

func creation(collection, title string, more ...any) map[string]any {
	item := map[string]any{"collection_id": collection, "title": title, "content": ""}
	for i := 0; i < len(more); i += 2 {
		item[more[i].(string)] = more[i+1]
	}
	return map[string]any{"op": "create", "item": item}
}

func change(id string, patch map[string]any) map[string]any {
	return map[string]any{"op": "update", "id": id, "patch": patch}
}

func deletion(id string) map[string]any { return map[string]any{"op": "delete", "id": id} }

func guarded(version int, operation map[string]any) map[string]any {
	operation["version"] = version
	return operation
}

// results are the statuses of a bulk answer, whose sums must be right.
func (a answer) results() (statuses []int, results []map[string]any) {
	a.t.Helper()
	failed := 0
	for _, value := range a.body["results"].([]any) {
		result := value.(map[string]any)
		status := int(result["status"].(float64))
		statuses, results = append(statuses, status), append(results, result)
		if status >= 400 {
			failed++
			require.InDelta(a.t, status, result["problem"].(map[string]any)["status"], 0)
		} else {
			require.NotContains(a.t, result, "problem")
		}
	}
	require.InDelta(a.t, failed, a.body["failed"], 0)
	require.InDelta(a.t, len(statuses)-failed, a.body["succeeded"], 0)
	return statuses, results
}

func pointers(result map[string]any) (out []string) {
	for _, e := range result["problem"].(map[string]any)["errors"].([]any) {
		out = append(out, e.(map[string]any)["pointer"].(string))
	}
	return out
}

// TestBulkOneByOne runs with and without an Idempotency-Key: the answers are the same.
func TestBulkOneByOne(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]option{"without a key": nil, "with a key": {header("Idempotency-Key", "bulk-1")}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			ada, eve := b.account("ada"), b.account("eve")
			mine, foreign, seen := b.collection(ada, "mine"), b.collection(eve, "foreign"), b.collection(eve, "seen")
			b.member(eve, seen, ada, "viewer")
			old, gone, hidden, readable := b.item(ada, mine, "old", "a"), b.item(ada, mine, "gone"), b.item(eve, foreign, "hidden"), b.item(eve, seen, "readable")
			before := len(b.envelopes())
			body := bulk(false,
				creation(mine, "new", "tags", []string{"a", "b"}, "source_url", "https://example.com/x"),
				creation(mine, "same source", "source_url", "https://example.com/x"),
				creation(foreign, "x"),
				creation(seen, "x"),
				creation(mine, "blank tag", "tags", []string{"ok", "\u00a0"}),
				change(old, map[string]any{"title": "renamed", "tags": []string{"c"}}),
				guarded(1, change(old, map[string]any{"title": "too late"})),
				change(old, map[string]any{"source_url": "https://example.com/x"}),
				change(hidden, map[string]any{"title": "x"}),
				guarded(1, deletion(gone)),
				deletion(gone),
				deletion(readable),
				change(uuid.NewString(), map[string]any{"metadata": map[string]any{"a": 1e300}}),
			)
			a := b.call(ada, "POST", "/v1/items/bulk", body, options...).is(200)
			statuses, results := a.results()
			require.Equal(t, []int{201, 200, 404, 403, 422, 200, 412, 409, 404, 204, 404, 403, 404}, statuses, string(a.raw))
			created := results[0]["id"].(string)
			require.Equal(t, created, results[1]["id"])
			require.Equal(t, []string{"/operations/4/item/tags/1"}, pointers(results[4]))
			require.Equal(t, []string{"/operations/6/version"}, pointers(results[6]))
			require.Equal(t, []string{"/operations/8"}, pointers(results[8]))
			require.Equal(t, old, results[5]["id"])
			require.InDelta(t, 2, results[5]["version"], 0)
			require.Equal(t, hidden, results[8]["id"])
			require.Equal(t, []any{"a", "b"}, b.get(ada, created)["tags"])
			require.Equal(t, "renamed", b.get(ada, old)["title"])
			b.call(ada, "GET", "/v1/items/"+gone, nil).is(404)
			require.Len(t, b.envelopes(), before+3, "what failed has no event")
			if options == nil {
				return
			}
			again := b.call(ada, "POST", "/v1/items/bulk", body, options...).is(200)
			require.Equal(t, a.body, again.body)
			require.Equal(t, "true", again.header.Get("Idempotency-Replayed"))
			require.Len(t, b.envelopes(), before+3)
			b.call(ada, "POST", "/v1/items/bulk", bulk(false, deletion(old)), options...).problem(422, "idempotency-key-reused", "Idempotency-Key")
		})
	}
}

func TestBulkAtomic(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	mine, seen := b.collection(ada, "mine"), b.collection(eve, "seen")
	b.member(eve, seen, ada, "viewer")
	one, two := b.item(ada, mine, "one"), b.item(ada, mine, "two")
	before := len(b.envelopes())
	first := []map[string]any{creation(mine, "new", "tags", []string{"new tag"}), change(one, map[string]any{"title": "changed"}), deletion(two)}
	for name, tt := range map[string]struct {
		last   map[string]any
		status int
		kind   string
		place  string
	}{
		"not there":    {deletion(uuid.NewString()), 404, "not-found", "/operations/3"},
		"deleted":      {change(two, map[string]any{"title": "x"}), 404, "not-found", "/operations/3"},
		"stale":        {guarded(1, change(one, map[string]any{"title": "x"})), 412, "precondition-failed", "/operations/3/version"},
		"viewer":       {creation(seen, "x"), 403, "forbidden", "/operations/3"},
		"invalid":      {creation(mine, "x", "content", strings.Repeat("é", 1<<19+1)), 422, "validation", "/operations/3/item/content"},
		"bad tag":      {change(one, map[string]any{"tags": []string{"\u00a0"}}), 422, "validation", "/operations/3/patch/tags/0"},
		"bad metadata": {change(one, map[string]any{"metadata": map[string]any{"a": strings.Repeat("x", 20_000)}}), 422, "validation", "/operations/3/patch/metadata"},
	} {
		b.call(ada, "POST", "/v1/items/bulk", bulk(true, append(first, tt.last)...), header("Idempotency-Key", "k")).problem(tt.status, tt.kind, tt.place)
		require.Len(t, b.envelopes(), before, name)
		require.Equal(t, "one", b.get(ada, one)["title"], name)
		b.get(ada, two)
		require.Empty(t, b.tags(ada, mine, ""), name)
	}
	// A request that was refused is not kept.
	a := b.call(ada, "POST", "/v1/items/bulk", bulk(true, first...), header("Idempotency-Key", "k")).is(200)
	statuses, _ := a.results()
	require.Equal(t, []int{201, 200, 204}, statuses)
	require.Len(t, b.envelopes(), before+3)
	again := b.call(ada, "POST", "/v1/items/bulk", bulk(true, first...), header("Idempotency-Key", "k")).is(200)
	require.Equal(t, a.body, again.body)
	require.Len(t, b.envelopes(), before+3)
}

func TestBulkFieldErrors(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	ok := `{"op":"create","item":{"collection_id":"` + c + `","title":"t","content":""}}`
	for body, places := range map[string][]string{
		`{}`:                                                {"/operations"},
		`{"operations":[]}`:                                 {"/operations"},
		`{"operations":[` + ok + `,3]}`:                     {"/operations/1"},
		`{"operations":[` + ok + `,null]}`:                  {"/operations/1"},
		`{"operations":[{"op":"upsert"}]}`:                  {"/operations/0/op"},
		`{"operations":[{"op":7}]}`:                         {"/operations/0/op"},
		`{"operations":[{}]}`:                               {"/operations/0/op"},
		`{"operations":[{"op":"create"}]}`:                  {"/operations/0/item"},
		`{"operations":[{"op":"delete"}]}`:                  {"/operations/0/id"},
		`{"operations":[{"op":"delete","id":"x"}]}`:         {"/operations/0/id"},
		`{"operations":[{"op":"update","id":"` + c + `"}]}`: {"/operations/0/patch"},
		`{"operations":[{"op":"update","id":"` + c + `","patch":{},"extra":1}]}`:              {"/operations/0/patch", "/operations/0/extra"},
		`{"operations":[{"op":"update","id":"` + c + `","version":0,"patch":{"titel":"x"}}]}`: {"/operations/0/version", "/operations/0/patch/titel"},
		`{"operations":[` + ok + `,` + ok + `,` + ok + `,{"op":"create","item":{"collection_id":"x","title":"","content":7,"tags":["a",""]}}]}`: {
			"/operations/3/item/collection_id", "/operations/3/item/content", "/operations/3/item/tags/1",
		},
		`{"operations":[{"op":"create","item":{"collection_id":"` + c + `","title":"a\u0000","content":""}}]}`: {"/operations/0/item/title"},
		`{"operations":[` + strings.Repeat(ok+",", 500) + ok + `]}`:                                            {"/operations"},
		`{"atomic":"yes","operations":[` + ok + `]}`:                                                           {"/atomic"},
	} {
		a := b.call(ada, "POST", "/v1/items/bulk", body).problem(422, "validation", places...)
		require.NotContains(t, string(a.raw), "doesn't match")
	}
	a := b.call(ada, "POST", "/v1/items/bulk", `{"operations":[`+strings.Repeat(`{"op":"x"},`, 499)+`{}]}`).problem(422, "validation")
	require.Len(t, a.places(), 100, "the first errors suffice")
	require.Contains(t, string(a.raw), "must be one of create, delete, update")
	many := strings.Repeat(`{"op":"delete","id":"`+c+`"},`, 30)
	tags := `["a"` + strings.Repeat(`,"a"`, 1<<20) + `]`
	b.call(ada, "POST", "/v1/items/bulk", `{"operations":[`+many+`{"op":"create","item":{"tags":`+tags+`}}]}`).problem(400, "invalid-request")
	b.call(ada, "POST", "/v1/items", `{"tags":["a"`+strings.Repeat(`,"a"`, 2000)+`]}`).problem(400, "invalid-request")
	require.Empty(t, b.call(ada, "GET", "/v1/items", nil).is(200).items())
}

func TestBulkOfFiveHundred(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	for _, atomic := range []bool{false, true} {
		var operations []map[string]any
		for i := range 500 {
			operations = append(operations, creation(c, fmt.Sprint(i), "tags", []string{"all", fmt.Sprint(i % 7)}, "metadata", map[string]any{"n": i, "list": []int{1, 2, 3}}))
		}
		statuses, _ := b.call(ada, "POST", "/v1/items/bulk", bulk(atomic, operations...)).is(200).results()
		require.Len(t, statuses, 500)
		require.NotContains(t, statuses, 400)
	}
	require.InDelta(t, 1000, b.tags(ada, c, "")["all"]["item_count"], 0)
}

// TestBulksInOppositeOrder changes the same items in opposite orders at once, with tags changing under them. No change may be lost.
func TestBulksInOppositeOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	var items []string
	for i := range 10 {
		items = append(items, b.item(ada, c, fmt.Sprint(i), "x"))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	done, statuses := 0, map[int]int{}
	for writer := range 6 {
		wg.Go(func() {
			for round := range 5 {
				var operations []map[string]any
				for i := range items {
					if writer%2 == 1 {
						i = len(items) - 1 - i
					}
					patch := map[string]any{"title": fmt.Sprintf("%d %d", writer, round), "tags": []string{fmt.Sprint("w", writer), "x", fmt.Sprint("r", i*round%4)}}
					operations = append(operations, change(items[i], patch))
				}
				var options []option
				if writer == 2 {
					options = append(options, header("Idempotency-Key", fmt.Sprint("k", round)))
				}
				a := b.call(ada, "POST", "/v1/items/bulk", bulk(writer != 2, operations...), options...)
				mu.Lock()
				statuses[a.status]++
				if a.status == 200 {
					done++
				}
				mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		for i := range 8 {
			for name, tag := range b.tags(ada, c, "") {
				if strings.HasPrefix(name, "x") {
					b.call(ada, "PATCH", "/v1/collections/"+c+"/tags/"+tag["id"].(string), map[string]any{"name": fmt.Sprint("x", i)})
				}
			}
		}
	})
	wg.Wait()
	t.Log(statuses)
	for status := range statuses {
		require.Contains(t, []int{200, 503}, status)
	}
	require.Greater(t, done, 20)
	for _, item := range items {
		var titles int
		require.NoError(t, b.pool.QueryRow(t.Context(),
			"SELECT count(*) FROM item_revisions WHERE item_id = $1 AND 'title' = ANY (changed_fields)", item).Scan(&titles))
		require.Equal(t, done, titles, "each bulk changed each title")
	}
}

func TestBulkRights(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, viewer, stranger, editor := b.account("ada"), b.account("viewer"), b.account("stranger"), b.account("editor")
	c := b.collection(ada, "c")
	b.member(ada, c, viewer, "viewer")
	b.member(ada, c, editor, "editor")
	for _, operation := range []func() map[string]any{
		func() map[string]any { return creation(c, "new") },
		func() map[string]any { return change(b.item(ada, c, "t"), map[string]any{"title": "x"}) },
		func() map[string]any { return deletion(b.item(ada, c, "t")) },
	} {
		for who, want := range map[*account]int{viewer: 403, stranger: 404, editor: 200} {
			b.call(who, "POST", "/v1/items/bulk", bulk(true, operation())).is(want)
			statuses, _ := b.call(who, "POST", "/v1/items/bulk", bulk(false, operation())).is(200).results()
			require.Equal(t, want >= 400, statuses[0] >= 400)
			if want >= 400 {
				require.Equal(t, want, statuses[0])
			}
		}
	}
	// A stored answer is not given to whoever may not see its collections any more.
	key := header("Idempotency-Key", "k")
	body := bulk(false, creation(c, "mine"))
	b.call(editor, "POST", "/v1/items/bulk", body, key).is(200)
	b.call(editor, "POST", "/v1/items/bulk", body, key).is(200)
	b.call(ada, "DELETE", "/v1/collections/"+c+"/members/"+editor.id, nil).is(204)
	b.call(editor, "POST", "/v1/items/bulk", body, key).problem(404, "not-found")
}
