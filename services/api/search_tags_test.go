package api_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
)

// TestSearchFollowsATagsNewName: each item that has the tag gets a version and an event, which is what the index goes by.
func TestSearchFollowsATagsNewName(t *testing.T) {
	t.Parallel()
	x := setupIndexed(t)
	ada := x.account("ada")
	c := x.collection(ada, "c")
	first, second, other := x.item(ada, c, "first", "old"), x.item(ada, c, "second", "old"), x.item(ada, c, "third", "else")
	x.sync(first, second, other)
	told := len(x.envelopes())
	x.call(ada, "PATCH", x.tagPath(ada, c, "old"), map[string]any{"name": "new"}).is(http.StatusOK)
	var announced []string
	for _, e := range x.envelopes()[told:] {
		if e.EventType == event.ItemUpdated {
			announced = append(announced, e.Entity.ID.String())
		}
	}
	require.ElementsMatch(t, []string{first, second}, announced)
	x.sync(announced...)
	x.refresh()
	require.Len(t, x.call(ada, "GET", "/v1/search?q=tag:new", nil).is(http.StatusOK).items(), 2)
	require.Empty(t, x.call(ada, "GET", "/v1/search?q=tag:old", nil).is(http.StatusOK).items())
}
