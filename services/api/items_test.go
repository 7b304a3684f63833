package api_test

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestItemLife(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	collection := b.collection(ada, "notes")
	created := b.call(ada, "POST", "/v1/items", map[string]any{
		"collection_id": collection, "title": "Zürich 🚂", "content": "# Text\n", "source_url": "https://example.com/a?b=c",
		"tags": []string{"b", " a ", "b"},
	}).is(201)
	require.Equal(t, `"1"`, created.header.Get("ETag"))
	require.Equal(t, "/v1/items/"+created.id(), created.header.Get("Location"))
	require.Equal(t, []any{"a", "b"}, created.body["tags"])
	require.Equal(t, "indexing", created.body["search_state"])
	require.Equal(t, "owner", created.body["my_role"])
	path := "/v1/items/" + created.id()

	got := b.call(ada, "GET", path, nil).is(200)
	require.Equal(t, created.body, got.body)
	require.Equal(t, `"1"`, got.header.Get("ETag"))
	for _, tag := range []string{`"1"`, `W/"1"`, `"9", "1"`, "*"} {
		notModified := b.call(ada, "GET", path, nil, header("If-None-Match", tag)).is(304)
		require.Empty(t, notModified.raw)
		require.Equal(t, `"1"`, notModified.header.Get("ETag"))
	}
	b.call(ada, "GET", path, nil, header("If-None-Match", `"2"`)).is(200)

	_, err := b.pool.Exec(t.Context(), "INSERT INTO item_index_state (item_id, indexed_version) VALUES ($1, 1)", created.id())
	require.NoError(t, err)
	require.Equal(t, "indexed", b.call(ada, "GET", path, nil).is(200).body["search_state"])

	patched := b.call(ada, "PATCH", path, map[string]any{"title": "Other", "source_url": nil, "tags": []string{"c"}},
		header("If-Match", `"1"`), header("Content-Type", "application/merge-patch+json")).is(200)
	require.Equal(t, `"2"`, patched.header.Get("ETag"))
	require.Equal(t, "Other", patched.body["title"])
	require.Equal(t, "# Text\n", patched.body["content"])
	require.Nil(t, patched.body["source_url"])
	require.Equal(t, []any{"c"}, patched.body["tags"])
	require.Equal(t, "indexing", patched.body["search_state"])
	require.Equal(t, patched.body, b.call(ada, "GET", path, nil).is(200).body)

	for _, tag := range []string{`"1"`, `W/"2"`, `2`, `"3"`} {
		b.call(ada, "PATCH", path, map[string]any{"title": "x"}, header("If-Match", tag)).problem(412, "precondition-failed")
		b.call(ada, "DELETE", path, nil, header("If-Match", tag)).problem(412, "precondition-failed")
	}
	same := b.call(ada, "PATCH", path, map[string]any{"title": "Other", "tags": []string{"c"}}, header("If-Match", "*")).is(200)
	require.Equal(t, `"2"`, same.header.Get("ETag"), "nothing changed")
	b.call(ada, "PATCH", path, map[string]any{"tags": []string{}}).is(200)

	b.call(ada, "DELETE", path, nil, header("If-Match", `"3"`)).is(204)
	b.call(ada, "GET", path, nil).problem(404, "not-found")
	b.call(ada, "PATCH", path, map[string]any{"title": "x"}).problem(404, "not-found")
	b.call(ada, "DELETE", path, nil).problem(404, "not-found")
	require.Empty(t, b.call(ada, "GET", "/v1/items", nil).is(200).items())
}

func TestItemContentOfOneMebibyte(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	collection := b.collection(ada, "c")
	content := strings.Repeat("\x01\"é\n", 1<<20/5)
	content += strings.Repeat("x", 1<<20-len(content))
	body := map[string]any{"collection_id": collection, "title": "large", "content": content}
	a := b.call(ada, "POST", "/v1/items", body).is(201)
	require.Equal(t, content, b.call(ada, "GET", "/v1/items/"+a.id(), nil).is(200).body["content"])
	body["content"] = content + "x"
	b.call(ada, "POST", "/v1/items", body).problem(422, "validation", "/content")
	body["content"] = strings.Repeat("é", 1<<19+1)
	b.call(ada, "POST", "/v1/items", body).problem(422, "validation", "/content")
}

// TestIfMatchLetsOneWriterThrough has many writers change the same version.
func TestIfMatchLetsOneWriterThrough(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	path := "/v1/items/" + b.item(ada, b.collection(ada, "c"), "t")
	var ok, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			a := b.call(ada, "PATCH", path, map[string]any{"title": fmt.Sprint(i), "tags": []string{fmt.Sprint(i), "all"}}, header("If-Match", `"1"`))
			switch a.status {
			case 200:
				ok.Add(1)
			case 412:
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, ok.Load())
	require.EqualValues(t, 11, refused.Load())
	require.InDelta(t, 2, b.call(ada, "GET", path, nil).is(200).body["version"], 0)
}

// TestConcurrentWritersOfTags makes the same new tags from many items at once.
func TestConcurrentWritersOfTags(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	collection := b.collection(ada, "c")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			tags := []string{"one", "two", "three", "four"}
			for range i % 4 {
				tags = append(tags[1:], tags[0])
			}
			require.Equal(t, 201, b.call(ada, "POST", "/v1/items",
				map[string]any{"collection_id": collection, "title": "t", "content": "", "tags": tags}).status)
		})
	}
	wg.Wait()
	for _, item := range b.call(ada, "GET", "/v1/items", nil).is(200).items() {
		require.Equal(t, []any{"four", "one", "three", "two"}, item["tags"])
	}
}

func TestItemLists(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	first, second, foreign := b.collection(ada, "first"), b.collection(ada, "second"), b.collection(eve, "foreign")
	var want []string // newest first
	for i := range 23 {
		b.item(eve, foreign, "hidden", "even")
		collection, tags := first, []string{"odd", fmt.Sprint(i)}
		if i%2 == 0 {
			collection, tags = second, []string{"even", "all", fmt.Sprint(i)}
		}
		want = append([]string{b.item(ada, collection, fmt.Sprint(i), tags...)}, want...)
	}
	walk := func(query url.Values, size int) []string {
		t.Helper()
		query.Set("limit", fmt.Sprint(size))
		var got []string
		for {
			a := b.call(ada, "GET", "/v1/items?"+query.Encode(), nil).is(200)
			require.LessOrEqual(t, len(a.items()), size)
			for _, item := range a.items() {
				require.NotContains(t, item, "content")
				require.Len(t, item["tags"], map[bool]int{true: 3, false: 2}[item["collection_id"] == second])
				got = append(got, item["id"].(string))
			}
			next, more := a.body["next_cursor"].(string)
			if !more {
				return got
			}
			query.Set("cursor", next)
		}
	}
	var even []string
	for i, id := range want {
		if i%2 == 0 {
			even = append(even, id)
		}
	}
	require.Equal(t, want, walk(url.Values{}, 5))
	require.Equal(t, want, walk(url.Values{}, 23))
	require.Equal(t, even, walk(url.Values{"collection_id": {second}}, 5))
	require.Equal(t, even, walk(url.Values{"tag": {"even"}}, 5))
	require.Equal(t, even, walk(url.Values{"tag": {"even", "all"}, "collection_id": {second}}, 4))
	require.Len(t, walk(url.Values{"tag": {"even", "4"}}, 5), 1)
	require.Empty(t, walk(url.Values{"tag": {"even", "odd"}}, 5))
	require.Empty(t, walk(url.Values{"tag": {"unknown"}}, 5))

	collections := b.call(ada, "GET", "/v1/collections?limit=1", nil).is(200)
	require.Equal(t, "second", collections.items()[0]["name"])
	collections = b.call(ada, "GET", "/v1/collections?limit=1&cursor="+collections.body["next_cursor"].(string), nil).is(200)
	require.Equal(t, "first", collections.items()[0]["name"])
	require.Nil(t, collections.body["next_cursor"])
}

func TestCursorsAreBoundToTheirList(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	collection := b.collection(ada, "c")
	b.member(ada, collection, eve, "viewer")
	for range 3 {
		b.item(ada, collection, "t", "x")
	}
	cursor := b.call(ada, "GET", "/v1/items?limit=1", nil).is(200).body["next_cursor"].(string)
	b.call(ada, "GET", "/v1/items?limit=2&cursor="+cursor, nil).is(200)
	for name, call := range map[string]answer{
		"another filter": b.call(ada, "GET", "/v1/items?tag=x&cursor="+cursor, nil),
		"another list":   b.call(ada, "GET", "/v1/jobs?cursor="+cursor, nil),
		"another user":   b.call(eve, "GET", "/v1/items?cursor="+cursor, nil),
		"tampered":       b.call(ada, "GET", "/v1/items?cursor="+cursor[:len(cursor)-2]+"AA", nil),
		"made up":        b.call(ada, "GET", "/v1/items?cursor=e30", nil),
		"not base64":     b.call(ada, "GET", "/v1/items?cursor=!!!", nil),
	} {
		require.Equal(t, []string{"cursor"}, call.problem(400, "invalid-request").places(), name)
	}
}

func TestSearch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	collection, foreign := b.collection(ada, "c"), b.collection(eve, "foreign")
	require.Empty(t, b.call(b.account("new"), "GET", "/v1/search?q=x", nil).is(200).items())
	for i := range 5 {
		b.item(ada, collection, fmt.Sprintf("locomotive %d", i), "train")
	}
	b.item(ada, collection, "<b>bicycle</b>")
	b.item(eve, foreign, "locomotive elsewhere")
	page := b.call(ada, "GET", "/v1/search?q=locomotive&limit=3", nil).is(200)
	require.Len(t, page.items(), 3)
	require.InDelta(t, 5, page.body["total"], 0)
	require.Contains(t, page.body, "degraded")
	hit := page.items()[0]
	require.Equal(t, "owner", hit["my_role"])
	require.Equal(t, []any{"train"}, hit["tags"])
	require.Contains(t, []any{"indexing", "indexed"}, hit["search_state"])
	rest := b.call(ada, "GET", "/v1/search?q=locomotive&limit=3&cursor="+page.body["next_cursor"].(string), nil).is(200)
	require.Len(t, rest.items(), 2)
	require.Nil(t, rest.body["next_cursor"])
	require.Len(t, b.call(ada, "GET", "/v1/search?q=&tag=train", nil).is(200).items(), 5)
	require.Len(t, b.call(ada, "GET", "/v1/search", nil).is(200).items(), 6)
	b.call(ada, "GET", "/v1/search?q=bicycle&cursor="+page.body["next_cursor"].(string), nil).problem(400, "invalid-request", "cursor")
	b.call(ada, "GET", "/v1/search?collection_id="+foreign, nil).problem(404, "not-found")
	for _, text := range []string{`"unbalanced`, "a & | ! b", "-", "((", `\`, "'", "*:*", strings.Repeat("x ", 64)} {
		require.Less(t, b.call(ada, "GET", "/v1/search?q="+url.QueryEscape(text), nil).status, 500, text)
	}
}
