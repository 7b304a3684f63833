package api_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestScoresTellNothingOfStrangers counts no stranger's items by one's own score: Elasticsearch's own ranking takes from the whole index how many
// items have a word.
func TestScoresTellNothingOfStrangers(t *testing.T) {
	t.Parallel()
	x := setupIndexed(t)
	ada, eve := x.account("ada"), x.account("eve")
	c, d := x.collection(ada, "c"), x.collection(eve, "d")
	add := func(by *account, collection, title, content string) {
		x.sync(x.call(by, "POST", "/v1/items", map[string]any{"collection_id": collection, "title": title, "content": content}).is(201).id())
		x.refresh()
	}
	add(ada, c, "acquisition", "of Initech")
	add(ada, c, "Initech", "acquisition, acquisition")
	seen := func() []string {
		var out []string
		for _, q := range []string{"acquisition", "initech acquisition", `"of Initech"`, "acquisitiom"} {
			a := x.call(ada, "GET", "/v1/search?facets=tags,collections&q="+url.QueryEscape(q), nil).is(200)
			require.Equal(t, false, a.body["degraded"])
			out = append(out, string(a.raw))
		}
		return out
	}
	before := seen()
	require.Contains(t, before[0], `"score":`)
	for _, content := range []string{"", "acquisition of Initech", "a long text of other words, which makes the average longer"} {
		add(eve, d, "Initech acquisition", content)
		require.Equal(t, before, seen())
	}
}
