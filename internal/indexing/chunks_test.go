package indexing

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// TestChunksAreBoundedByCountAndBytes: 500 items of 1 MiB are an ordinary batch, and an indexer has little memory.
func TestChunksAreBoundedByCountAndBytes(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	cases := map[string]struct {
		sizes []int
		want  []int
	}{
		"nothing":          {nil, nil},
		"small":            {make([]int, 10), []int{10}},
		"many small":       {make([]int, 2*fetchSize+1), []int{fetchSize, fetchSize, 1}},
		"large":            {[]int{mib, mib, mib, mib, mib, mib}, []int{4, 2}},
		"larger than all":  {[]int{1, 2 * fetchBytes, 1}, []int{1, 1, 1}},
		"exactly the room": {[]int{fetchBytes, fetchBytes}, []int{1, 1}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			targets, sizes := make([]Target, len(c.sizes)), map[uuid.UUID]int{}
			for i, size := range c.sizes {
				targets[i] = Target{ItemID: uuid.New()}
				sizes[targets[i].ItemID] = size
			}
			var got []int
			var all []Target
			for chunk := range chunks(targets, sizes) {
				got, all = append(got, len(chunk)), append(all, chunk...)
			}
			require.Equal(t, c.want, got)
			require.Len(t, all, len(targets))
			require.Subset(t, all, targets)
		})
	}
}
