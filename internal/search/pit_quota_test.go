package search

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPITQuota(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	quota := pitQuota{now: func() time.Time { return now }}
	for range maxPITs {
		require.True(t, quota.take())
		now = now.Add(time.Millisecond)
	}
	require.False(t, quota.take())
	quota.giveBack()
	require.True(t, quota.take())
	require.False(t, quota.take())
	now = time.Unix(0, 0).Add(pitLifetime + 2*time.Millisecond) // the first that is left has ended
	require.True(t, quota.take())
	require.False(t, quota.take())
	now = now.Add(2 * pitLifetime)
	for range maxPITs {
		require.True(t, quota.take())
		quota.giveBack()
	}
	quota.giveBack()
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"kafka", "kafka", 0},
		{"kafak", "kafka", 1},
		{"kafka", "", 5},
		{"grup", "group", 1},
		{"größe", "grösse", 2},
		{"ca", "abc", 3},
		{"consmer", "consumers", 2},
	} {
		require.Equal(t, tt.want, distance([]rune(tt.a), []rune(tt.b)), tt.a)
		require.Equal(t, tt.want, distance([]rune(tt.b), []rune(tt.a)), tt.b)
	}
	require.Equal(t, "kafka", nearestOf("Kafak", map[string]int{"kafkas": 9, "kafka": 1}))
	require.Equal(t, "group", nearestOf("grup", map[string]int{"group": 2, "grip": 1}))
	require.Equal(t, "grip", nearestOf("grup", map[string]int{"group": 2, "grip": 2}))
	require.Empty(t, nearestOf("grup", nil))
}
