package rebuild_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestARebuildSaysWhatItWaitsFor: its items are all done long before the old index can go.
func TestARebuildSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var atRetirement string
	w.rebuild(t, func(_ context.Context, phase string) {
		if phase == "retire" {
			atRetirement = w.doing[len(w.doing)-1]
		}
	})
	require.Equal(t, "search is on the new index; waiting until the searches that were begun in the old one are over, to remove it", atRetirement)
	require.Contains(t, w.doing, "copying all items into the new index")
	require.Contains(t, w.doing, "comparing the new index with the items")
}
