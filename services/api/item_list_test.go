package api_test

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// walkItems reads a whole list and returns the titles.
func (b *testBundle) walkItems(user *account, query string) []string {
	b.t.Helper()
	titles := []string{}
	path := "/v1/items?limit=2&" + query
	for next := path; ; {
		a := b.call(user, "GET", next, nil).is(200)
		for _, item := range a.items() {
			titles = append(titles, item["title"].(string))
		}
		cursor, more := a.body["next_cursor"].(string)
		if !more {
			return titles
		}
		require.Len(b.t, a.items(), 2)
		next = path + "&cursor=" + url.QueryEscape(cursor)
	}
}

func TestItemListFiltersAndSorts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	collection := b.collection(ada, "c")
	b.member(ada, collection, eve, "editor")
	ids := map[string]string{}
	for _, title := range []string{"b", "C", "a", "D", "𝄞" + strings.Repeat("<", 499)} {
		user := ada
		if title == "a" || title == "D" {
			user = eve
		}
		ids[title[:1]] = b.item(user, collection, title, "all", "tag "+strings.ToLower(title[:1]))
	}
	b.call(ada, "PATCH", "/v1/items/"+ids["C"], map[string]any{"source_url": "https://example.com/c"}).is(200)
	long := "𝄞" + strings.Repeat("<", 499)
	created := b.call(ada, "GET", "/v1/items/"+ids["a"], nil).is(200).body["created_at"].(string)
	updated := b.call(ada, "GET", "/v1/items/"+ids["C"], nil).is(200).body["updated_at"].(string)

	at, err := time.Parse(time.RFC3339Nano, created)
	require.NoError(t, err)
	between := at.Add(time.Nanosecond).Format(time.RFC3339Nano)

	for query, want := range map[string][]string{
		"":                            {long, "D", "a", "C", "b"},
		"sort=newest":                 {long, "D", "a", "C", "b"},
		"sort=oldest":                 {"b", "C", "a", "D", long},
		"sort=updated":                {"C", long, "D", "a", "b"},
		"sort=title":                  {"a", "b", "C", "D", long},
		"author=me":                   {long, "C", "b"},
		"author=" + eve.id:            {"D", "a"},
		"sort=title&author=" + eve.id: {"a", "D"},
		"author=00000000-0000-0000-0000-000000000000": {},
		"has_source=true":                               {"C"},
		"has_source=false&sort=oldest":                  {"b", "a", "D", long},
		"created_after=" + created:                      {long, "D", "a"},
		"created_before=" + created:                     {"C", "b"},
		"updated_after=" + updated:                      {"C"},
		"updated_before=" + updated:                     {long, "D", "a", "b"},
		"tag=all&tag=tag+c&collection_id=" + collection: {"C"},
		"sort=title&tag=all&author=me&has_source=false": {"b", long},
		// Years that UTC does not have, and times between two that can be kept.
		"created_after=0000-01-01T00:00:00%2B23:59":          {long, "D", "a", "C", "b"},
		"created_before=9999-12-31T23:59:59.999999999-23:59": {long, "D", "a", "C", "b"},
		"sort=oldest&created_after=" + between:               {"D", long},
		"created_before=" + between:                          {"a", "C", "b"},
	} {
		require.Equal(t, want, b.walkItems(ada, query), query)
	}
	require.Empty(t, b.walkItems(b.account("mallory"), "author="+ada.id))
}

func TestItemListCursorsAreBoundToFiltersAndSort(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	collection := b.collection(ada, "c")
	for range 3 {
		b.item(ada, collection, "t", "x", "y")
	}
	queries := map[string]string{
		"sort": "sort=oldest", "another sort": "sort=title", "updated": "sort=updated", "none": "", "tag": "tag=x", "tags": "tag=x&tag=y",
		"author": "author=me", "source": "has_source=false", "collection": "collection_id=" + collection,
		"created_after": "created_after=2000-01-01T00:00:00Z", "updated_after": "updated_after=2000-01-01T00:00:00Z",
		"created_before": "created_before=2100-01-01T00:00:00Z", "updated_before": "updated_before=2100-01-01T00:00:00Z",
	}
	for _, name := range slices.Sorted(maps.Keys(queries)) {
		cursor := b.call(ada, "GET", "/v1/items?limit=1&"+queries[name], nil).is(200).body["next_cursor"].(string)
		for other, query := range queries {
			a := b.call(ada, "GET", fmt.Sprintf("/v1/items?limit=1&%s&cursor=%s", query, cursor), nil)
			if other == name {
				a.is(200)
			} else {
				a.problem(400, "invalid-request", "cursor")
			}
		}
	}
	// The same list, written in another way.
	cursor := b.call(ada, "GET", "/v1/items?limit=1&tag=y&tag=x&author=me&created_after=2000-01-01T00:00:00Z", nil).is(200).body["next_cursor"].(string)
	b.call(ada, "GET", "/v1/items?sort=newest&tag=x&tag=y&author="+strings.ToUpper(ada.id)+
		"&created_after=2000-01-01T01:00:00.0%2B01:00&cursor="+cursor, nil).is(200)
}

func TestItemListParameters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	for query, place := range map[string]string{
		"author=you": "author", "author=" + ada.id + "0": "author", "has_source=yes": "has_source", "created_after=yesterday": "created_after",
		"updated_before=2026-02-30T00:00:00Z": "updated_before", "sort=size": "sort", "sort=": "sort", "tag=": "tag", "tag=%00": "tag",
	} {
		b.call(ada, "GET", "/v1/items?"+query, nil).problem(400, "invalid-request", place)
	}
}
