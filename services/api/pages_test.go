package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// nextLink is the address in an answer's Link header; empty when there is no next page.
func (a answer) nextLink() string {
	a.t.Helper()
	link := a.header.Get("Link")
	if link == "" {
		return ""
	}
	address, found := strings.CutSuffix(link, `>; rel="next"`)
	require.True(a.t, found, link)
	address, found = strings.CutPrefix(address, "<")
	require.True(a.t, found, link)
	return address
}

// TestLinkLeadsThroughAList follows the links only: they repeat the filters.
func TestLinkLeadsThroughAList(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	for range 5 {
		b.item(ada, c, "tagged", "a & b", "ü>,\"")
		b.item(ada, c, "not tagged")
	}
	titles := 0
	address := "/v1/items?limit=2&tag=a+%26+b&tag=%C3%BC%3E%2C%22&collection_id=" + c
	for pages := 1; address != ""; pages++ {
		page := b.call(ada, "GET", address, nil).is(http.StatusOK)
		for _, item := range page.items() {
			require.Equal(t, "tagged", item["title"])
			titles++
		}
		require.LessOrEqual(t, pages, 3)
		address = page.nextLink()
		if page.body["next_cursor"] == nil {
			require.Empty(t, address)
		} else {
			require.Contains(t, address, page.body["next_cursor"])
		}
	}
	require.Equal(t, 5, titles)
}
