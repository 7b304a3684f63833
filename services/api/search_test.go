package api_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// find returns the titles of what a search finds, in order of the alphabet.
func (b *testBundle) find(user *account, q, more string) []string {
	b.t.Helper()
	titles := []string{}
	for _, hit := range b.call(user, "GET", "/v1/search?q="+url.QueryEscape(q)+more, nil).is(200).items() {
		titles = append(titles, hit["title"].(string))
	}
	slices.Sort(titles)
	return titles
}

func TestSearchLanguage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	notes, recipes := b.collection(ada, "My Notes"), b.collection(ada, "Recipes")
	b.member(ada, recipes, eve, "editor")
	b.item(ada, notes, "ada's note", "go", "two words")
	b.item(ada, recipes, "ada's recipe", "go")
	b.item(eve, recipes, "eve's recipe")
	for q, want := range map[string][]string{
		"recipe":                                     {"ada's recipe", "eve's recipe"},
		"recipe -eve":                                {"ada's recipe"},
		`tag:"two words"`:                            {"ada's note"},
		"recipe tag:go":                              {"ada's recipe"},
		"collection:RECIPES":                         {"ada's recipe", "eve's recipe"},
		`collection:"my notes"`:                      {"ada's note"},
		"-collection:recipes":                        {"ada's note"},
		"collection:" + notes:                        {"ada's note"},
		"collection:recipes collection:" + notes:     {"ada's note", "ada's recipe", "eve's recipe"},
		"collection:recipes -collection:recipes":     {},
		"author:me":                                  {"ada's note", "ada's recipe"},
		"-author:ME":                                 {"eve's recipe"},
		"author:" + eve.email:                        {"eve's recipe"},
		"author:" + strings.ToUpper(eve.email):       {"eve's recipe"},
		"-author:" + eve.email + " author:" + ada.id: {"ada's note", "ada's recipe"},
		"author:" + eve.id + " author:me":            {"ada's note", "ada's recipe", "eve's recipe"},
		"author:eve":                                 {},
		"after:2020-01-01":                           {"ada's note", "ada's recipe", "eve's recipe"},
		"before:2020-01-01":                          {},
	} {
		require.Equal(t, want, b.find(ada, q, ""), q)
	}
	require.Equal(t, []string{"ada's recipe"}, b.find(ada, "tag:go", "&collection_id="+recipes))
	require.Empty(t, b.find(ada, "collection:recipes", "&collection_id="+notes))
	require.Equal(t, []string{"ada's note"}, b.find(ada, "tag:go", "&tag=two%20words"))

	page := b.call(ada, "GET", "/v1/search?q=recipe&limit=1", nil).is(200)
	cursor := page.body["next_cursor"].(string)
	require.Len(t, b.call(ada, "GET", "/v1/search?q=+recipe+&limit=1&cursor="+cursor, nil).is(200).items(), 1, "the same query")
	b.call(ada, "GET", "/v1/search?q=recipe+-x&cursor="+cursor, nil).problem(400, "invalid-request", "cursor")

	a := b.call(ada, "GET", "/v1/search?q="+url.QueryEscape("größe before:tomorrow"), nil).problem(400, "invalid-request", "q")
	require.Equal(t, `q can't be understood from character 7 on: before: needs a date such as before:2026-01-31 or a time such as `+
		`before:2026-01-31T10:00:00Z; to look for the text itself, write it in quotes: "before:tomorrow"`, a.body["detail"])
}

// TestSearchNamesTellNothing compares names of what the caller can't see with names that nobody ever gave.
func TestSearchNamesTellNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	mine, hers := b.collection(ada, "Mine"), b.collection(eve, "Secret")
	b.item(ada, mine, "mine")
	b.item(eve, hers, "hers")
	seen := func(q string) string {
		a := b.call(ada, "GET", "/v1/search?q="+url.QueryEscape(q), nil).is(200)
		return string(a.raw)
	}
	for _, tt := range []struct{ theirs, nobodys string }{
		{"collection:Secret", "collection:Nothing"},
		{"-collection:Secret", "-collection:Nothing"},
		{"collection:" + hers, "collection:019c0000-0000-7000-8000-000000000000"},
		{"author:" + eve.email, "author:nobody@example.com"},
		{"-author:" + eve.email, "-author:nobody@example.com"},
		{"author:" + eve.id, "author:019c0000-0000-7000-8000-000000000000"},
	} {
		require.Equal(t, seen(tt.nobodys), seen(tt.theirs), tt.theirs)
	}
	require.Empty(t, b.find(ada, "collection:secret", ""))

	b.member(eve, hers, ada, "viewer")
	require.Equal(t, []string{"hers"}, b.find(ada, "collection:secret author:"+eve.email, ""))
	b.call(eve, "DELETE", "/v1/collections/"+hers+"/members/"+ada.id, nil).is(204)
	require.Empty(t, b.find(ada, "collection:secret", ""), "from the very next request")
	require.Empty(t, b.find(ada, "author:"+eve.email, ""))
}

func TestSearchFacets(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	c, hers := b.collection(ada, "c"), b.collection(eve, "hers")
	b.item(ada, c, "one", "go", "kafka")
	b.item(ada, c, "two", "go")
	b.item(eve, hers, "three", "go", "secret")
	facets := func(user *account, query string) any {
		return b.call(user, "GET", "/v1/search?"+query, nil).is(200).body["facets"]
	}
	count := func(key, value string, n int) any { return map[string]any{key: value, "count": float64(n)} }
	tags := []any{count("tag", "go", 2), count("tag", "kafka", 1)}
	collections := []any{count("collection_id", c, 2)}
	require.Nil(t, facets(ada, "q=one"))
	require.Equal(t, map[string]any{"tags": tags}, facets(ada, "facets=tags"))
	require.Equal(t, map[string]any{"tags": tags, "collections": collections}, facets(ada, "facets=tags,collections&limit=1"))
	require.Equal(t, map[string]any{"tags": []any{}}, facets(ada, "facets=tags&q=three"))
	require.Equal(t, map[string]any{"collections": []any{}}, facets(b.account("new"), "facets=collections"))
	b.call(ada, "GET", "/v1/search?facets=authors", nil).problem(400, "invalid-request", "facets")
	b.call(ada, "GET", "/v1/search?facets=tags,tags", nil).problem(400, "invalid-request", "facets")

	b.member(eve, hers, ada, "viewer")
	require.Len(t, facets(ada, "facets=collections").(map[string]any)["collections"], 2)
	b.call(eve, "DELETE", "/v1/collections/"+hers+"/members/"+ada.id, nil).is(204)
	require.Equal(t, map[string]any{"tags": tags, "collections": collections}, facets(ada, "facets=collections,tags"), "from the very next request")
}

func TestSearchSort(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	first := b.item(ada, c, "first")
	b.item(ada, c, "second")
	b.item(ada, c, "third")
	b.call(ada, "PATCH", "/v1/items/"+first, map[string]any{"content": "third third"}).is(200)
	titles := func(query string) []string {
		var out []string
		for cursor := ""; ; {
			page := b.call(ada, "GET", "/v1/search?limit=1&"+query+cursor, nil).is(200)
			for _, hit := range page.items() {
				out = append(out, hit["title"].(string))
			}
			next, more := page.body["next_cursor"].(string)
			if !more {
				return out
			}
			cursor = "&cursor=" + next
		}
	}
	require.Equal(t, []string{"third", "second", "first"}, titles(""))
	require.Equal(t, []string{"third", "second", "first"}, titles("sort=newest"))
	require.Equal(t, []string{"first", "second", "third"}, titles("sort=oldest"))
	require.Equal(t, []string{"first", "third", "second"}, titles("sort=updated"))
	require.Equal(t, []string{"third", "first"}, titles("q=third"))
	require.Equal(t, []string{"first", "third"}, titles("q=third&sort=oldest"))
	require.Equal(t, []string{"first", "third"}, titles("q=third&sort=updated"))
	cursor := b.call(ada, "GET", "/v1/search?limit=1&sort=oldest", nil).is(200).body["next_cursor"].(string)
	b.call(ada, "GET", "/v1/search?limit=1&sort=newest&cursor="+cursor, nil).problem(400, "invalid-request", "cursor")
	b.call(ada, "GET", "/v1/search?sort=best", nil).problem(400, "invalid-request", "sort")
}
