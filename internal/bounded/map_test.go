package bounded_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/bounded"
)

func TestMapForgetsWhatIsWorthLittle(t *testing.T) {
	t.Parallel()
	m := bounded.New[int](1000, func(v int64) int64 { return v })
	for i := range 100 {
		m.Put(i, 1_000_000) // worth keeping
	}
	for i := range 50_000 {
		m.Put(1000+i, int64(i%10))
	}
	require.Equal(t, 1000, m.Len())
	kept := 0
	for i := range 100 {
		if _, found := m.Get(i); found {
			kept++
		}
	}
	require.GreaterOrEqual(t, kept, 95, "all eight of a sample are worth keeping once in a hundred million times")

	m.Put(0, 5)
	value, found := m.Get(0)
	require.True(t, found)
	require.EqualValues(t, 5, value)
	m.Delete(0)
	_, found = m.Get(0)
	require.False(t, found)
}

func TestMapUpdatesAreNotLost(t *testing.T) {
	t.Parallel()
	m := bounded.New[string](10, func(v int) int64 { return int64(v) })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				m.Update("one", func(v int) int { return v + 1 })
			}
		})
	}
	wg.Wait()
	value, _ := m.Get("one")
	require.Equal(t, 8000, value)
}
