package api_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAMembershipEndsAtOnce ends one while the index, a cursor and a point in time still know everything: from the very next request on nothing
// of the collection is found, counted, suggested, corrected to or waited for.
func TestAMembershipEndsAtOnce(t *testing.T) {
	t.Parallel()
	x := setupIndexed(t)
	ada, eve := x.account("ada"), x.account("eve")
	mine, hers := x.collection(ada, "mine"), x.collection(eve, "hers")
	var items []string
	for range 3 {
		items = append(items, x.item(ada, mine, "needle", "mine"), x.item(eve, hers, "needle zookeeper", "secret"))
	}
	x.sync(items...)
	x.refresh()
	x.member(eve, hers, ada, "viewer")

	search := func(q, more string) answer {
		a := x.call(ada, "GET", "/v1/search?q="+url.QueryEscape(q)+more, nil).is(200)
		require.Equal(t, false, a.body["degraded"])
		return a
	}
	all := search("needle", "&facets=tags,collections&limit=2")
	require.EqualValues(t, 6, all.body["total"])
	require.Len(t, all.body["facets"].(map[string]any)["tags"], 2)
	cursor := "&limit=2&cursor=" + all.body["next_cursor"].(string)
	second := search("needle", cursor)
	require.Len(t, second.items(), 2)
	require.Equal(t, "zookeeper", search("zokeeper", "").body["did_you_mean"])
	titles, tags := x.suggest(ada, "needle zoo", "")
	require.Len(t, titles, 3)
	require.Empty(t, tags)
	_, tags = x.suggest(ada, "sec", "")
	require.Equal(t, []string{"secret"}, tags)
	require.Equal(t, true, search("", "&wait_for="+items[1]+":1").body["fresh"])

	x.call(eve, "DELETE", "/v1/collections/"+hers+"/members/"+ada.id, nil).is(204)

	left := search("needle", "&facets=tags,collections")
	require.EqualValues(t, 3, left.body["total"])
	require.Equal(t, map[string]any{
		"tags":        []any{map[string]any{"tag": "mine", "count": 3.0}},
		"collections": []any{map[string]any{"collection_id": mine, "count": 3.0}},
	}, left.body["facets"])
	for _, page := range []answer{search("needle", cursor), search("needle", "&limit=2&cursor="+second.body["next_cursor"].(string))} {
		require.EqualValues(t, 3, page.body["total"], "a cursor from before")
		for _, hit := range page.items() {
			require.Equal(t, mine, hit["collection_id"])
		}
	}
	require.Nil(t, search("zokeeper", "").body["did_you_mean"])
	require.Empty(t, search("zookeeper", "").items())
	titles, tags = x.suggest(ada, "needle zoo", "")
	require.Empty(t, titles)
	require.Empty(t, tags)
	_, tags = x.suggest(ada, "sec", "")
	require.Empty(t, tags)
	x.call(ada, "GET", "/v1/search?wait_for="+items[1]+":1", nil).problem(404, "not-found")
	x.call(ada, "GET", "/v1/search?collection_id="+hers, nil).problem(404, "not-found")
	x.call(ada, "GET", "/v1/search/suggest?q=n&collection_id="+hers, nil).problem(404, "not-found")
}

// TestAMovedItemIsNotCounted moves one to where the caller can't see it, while the index, a cursor and a point in time still have it.
func TestAMovedItemIsNotCounted(t *testing.T) {
	t.Parallel()
	x := setupIndexed(t)
	ada, eve := x.account("ada"), x.account("eve")
	shared, hidden := x.collection(eve, "shared"), x.collection(eve, "hidden")
	x.member(eve, shared, ada, "viewer")
	items := []string{x.item(eve, shared, "needle"), x.item(eve, shared, "needle"), x.item(eve, shared, "needle zookeeper", "secret")}
	x.sync(items...)
	x.refresh()
	moved := items[2]

	search := func(who *account, q, more string) answer {
		a := x.call(who, "GET", "/v1/search?q="+url.QueryEscape(q)+more, nil).is(200)
		require.Equal(t, false, a.body["degraded"])
		return a
	}
	cursor := "&limit=1&cursor=" + search(ada, "needle", "&limit=1").body["next_cursor"].(string)
	require.EqualValues(t, 3, search(ada, "needle", cursor).body["total"])
	require.Equal(t, "zookeeper", search(ada, "zokeeper", "").body["did_you_mean"])
	hides := func() {
		t.Helper()
		left := search(ada, "needle", "&facets=tags,collections")
		require.EqualValues(t, 2, left.body["total"])
		require.Equal(t, map[string]any{
			"tags":        []any{},
			"collections": []any{map[string]any{"collection_id": shared, "count": 2.0}},
		}, left.body["facets"])
		require.EqualValues(t, 2, search(ada, "needle", cursor).body["total"], "a cursor from before")
		require.Nil(t, search(ada, "zokeeper", "").body["did_you_mean"])
		require.Zero(t, search(ada, "zookeeper", "").body["total"])
		require.EqualValues(t, 3, search(eve, "needle", "").body["total"], "who sees both collections finds it all the time")
		titles, _ := x.suggest(ada, "need", "&limit=2")
		require.Equal(t, []string{"needle", "needle"}, titles, "and it takes nobody's place")
	}
	x.call(eve, "PATCH", "/v1/items/"+moved, object{"collection_id": hidden}).is(200)
	hides()
	x.sync(moved)
	hides() // before the refresh
	x.refresh()
	hides()
	require.EqualValues(t, 0, search(eve, "zookeeper", "&collection_id="+shared).body["total"])
	require.EqualValues(t, 1, search(eve, "zookeeper", "&collection_id="+hidden).body["total"])

	x.call(eve, "PATCH", "/v1/items/"+moved, object{"collection_id": shared}).is(200)
	x.sync(moved)
	x.refresh()
	require.EqualValues(t, 3, search(ada, "needle", "").body["total"], "moved back")
}

func TestDidYouMean(t *testing.T) {
	t.Parallel()
	x := setupIndexed(t)
	ada := x.account("ada")
	notes := x.collection(ada, "notes")
	items := []string{x.item(ada, notes, "Kafka brokers", "go"), x.item(ada, notes, "Cooking")}
	x.sync(items...)
	x.refresh()
	for q, want := range map[string]any{
		"kafka":                              nil,
		"kafak":                              "kafka",
		`tag:go  "kafak brokers" author:me`:  `tag:go  "kafka brokers" author:me`,
		"kafak -cooking collection:notes":    "kafka -cooking collection:notes",
		"tag:kafak":                          nil,
		"kafak collection:elsewhere":         nil,
		"tga:go":                             nil,
		"":                                   nil,
		"-kafak tag:nothing":                 nil,
		"nothing similar to that whatsoever": nil,
	} {
		a := x.call(ada, "GET", "/v1/search?q="+url.QueryEscape(q), nil).is(200)
		require.Equal(t, want, a.body["did_you_mean"], q)
		if text, ok := want.(string); ok {
			require.Positive(t, x.call(ada, "GET", "/v1/search?q="+url.QueryEscape(text), nil).is(200).body["total"], q)
		}
	}
	require.Equal(t, "kafka", x.call(ada, "GET", "/v1/search?q=kafak&tag=go", nil).is(200).body["did_you_mean"])
	require.Nil(t, x.call(ada, "GET", "/v1/search?q=kafak&tag=other", nil).is(200).body["did_you_mean"])
}

// TestFoundItemsAreWhereTheyAreNow: the index still has them where they were.
func TestFoundItemsAreWhereTheyAreNow(t *testing.T) {
	t.Parallel()
	x := setupIndexed(t)
	ada := x.account("ada")
	from, to := x.collection(ada, "from"), x.collection(ada, "to")
	item := x.item(ada, from, "needle")
	x.sync(item)
	x.refresh()
	_, err := x.pool.Exec(t.Context(), "UPDATE items SET collection_id = $2, version = version + 1 WHERE id = $1", item, to)
	require.NoError(t, err)
	hits := x.call(ada, "GET", "/v1/search?q=needle", nil).is(200).items()
	require.Equal(t, to, hits[0]["collection_id"])
	require.Empty(t, x.call(ada, "GET", "/v1/search?q=needle+collection:from", nil).is(200).items())
	require.Equal(t, to, x.call(ada, "GET", "/v1/search/suggest?q=nee", nil).is(200).items()[0]["collection_id"])
}
