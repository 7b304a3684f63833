package api

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestQuotaFillsUp(t *testing.T) {
	t.Parallel()
	l, user, now := newRateLimiter(60), uuid.New(), time.Now()
	for i := range 60 {
		require.Equal(t, usage{left: 59 - i, full: time.Duration(i+1) * time.Second}, l.ofUser(now, user))
	}
	require.Equal(t, usage{wait: time.Second, full: time.Minute}, l.ofUser(now, user))
	require.Equal(t, usage{wait: time.Second, full: time.Minute}, l.ofUser(now, user), "what is refused is not counted")
	now = now.Add(1500 * time.Millisecond)
	require.Zero(t, l.ofUser(now, user).wait)
	require.Equal(t, 500*time.Millisecond, l.ofUser(now, user).wait)
	require.Equal(t, 59, l.ofUser(now.Add(time.Hour), user).left)
	require.Zero(t, newRateLimiter(maxRateLimit).ofUser(now, user).wait)
	require.Nil(t, newRateLimiter(0))
}

// TestFloodOfAddresses has far more addresses than the limiter remembers.
func TestFloodOfAddresses(t *testing.T) {
	t.Parallel()
	l, user, now := newRateLimiter(10), uuid.New(), time.Now()
	busy := netip.MustParseAddr("192.0.2.1")
	for range 10 {
		l.ofUser(now, user)
		l.ofAddress(now, busy.String())
	}
	address := netip.MustParseAddr("10.0.0.0")
	for range 4 * maxQuotas {
		address = address.Next()
		require.Zero(t, l.ofAddress(now, address.String()).wait, "nobody pays for the others")
	}
	require.Equal(t, maxQuotas, l.addresses.Len())
	require.NotZero(t, l.ofUser(now, user).wait)
	require.NotZero(t, l.ofAddress(now, busy.String()).wait, "who has used most is remembered longest")
}
