package api_test

import (
	"net/http"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/search"
	"github.com/atlas-platform/atlas/services/api"
)

func (b *testBundle) guess(email, secret string, options ...option) answer {
	b.t.Helper()
	return b.call(nil, "POST", "/v1/auth/login", map[string]any{"email": email, "password": secret}, options...)
}

// TestLoginThrottlePerAccount asks two replicas in turn. An account that does not exist is throttled just like one that does.
func TestLoginThrottlePerAccount(t *testing.T) {
	t.Parallel()
	b := setup(t)
	replicas := []*testBundle{b, setupWith(t, b.pool, search.NewPostgres(b.pool))}
	ada, eve := b.withPassword("ada"), b.withPassword("eve")
	for i := range 10 {
		for _, email := range []string{ada.email, "nobody@example.com"} {
			a := replicas[i%2].guess(email, "wrong password").problem(401, "unauthenticated")
			require.Regexp(t, `^"account";r=`+strconv.Itoa(9-i)+`;t=\d+, "address";r=\d+;t=\d+$`, a.header.Get("RateLimit"))
			require.Equal(t, `"account";q=10;w=300, "address";q=100;w=300`, a.header.Get("RateLimit-Policy"))
		}
	}
	for i := range 4 {
		for _, email := range []string{ada.email, "nobody@example.com", "NOBODY@example.com"} {
			a := replicas[i%2].guess(email, testPassword).problem(429, "too-many-attempts")
			seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
			require.NoError(t, err)
			require.InDelta(t, 150, seconds, 150)
		}
	}
	b.login(eve)
	_, err := b.pool.Exec(t.Context(), "UPDATE login_attempts SET resets_at = now()")
	require.NoError(t, err)
	p := b.login(ada)
	for range 10 {
		b.call(&p.account, "POST", "/v1/me/password", map[string]any{"current_password": "wrong password", "new_password": "a new password"}).is(422)
	}
	b.call(&p.account, "POST", "/v1/me/password", map[string]any{"current_password": testPassword, "new_password": "a new password"}).
		problem(429, "too-many-attempts")
	_, err = b.pool.Exec(t.Context(), "UPDATE login_attempts SET resets_at = now() - interval '2 minutes'")
	require.NoError(t, err)
	b.login(eve)
	var left int
	require.NoError(t, b.pool.QueryRow(t.Context(), "SELECT count(*) FROM login_attempts").Scan(&left))
	require.Equal(t, 2, left, "what is over was swept up")
}

func TestLoginThrottlePerAddress(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.withPassword("ada")
	b.guess("nobody@example.com", "wrong password").is(401)
	_, err := b.pool.Exec(t.Context(), "UPDATE login_attempts SET attempts = 100")
	require.NoError(t, err)
	a := b.guess(ada.email, testPassword).problem(429, "too-many-attempts")
	require.Contains(t, a.header.Get("RateLimit"), `"account";r=9;`)
	// Nobody gets another address by saying so.
	for range 12 {
		b.guess(ada.email, testPassword, header("X-Forwarded-For", "192.0.2.7")).problem(429, "too-many-attempts")
	}
	_, err = b.pool.Exec(t.Context(), "UPDATE login_attempts SET attempts = 99 WHERE attempts >= 100")
	require.NoError(t, err)
	b.login(ada)
	b.login(ada) // a login costs nothing
}

func TestLoginThrottleBelievesItsProxies(t *testing.T) {
	t.Parallel()
	b := setupWith(t, nil, nil, func(c *api.Config) { c.TrustedProxies = []string{"127.0.0.0/8"} })
	ada := b.withPassword("ada")
	b.guess("nobody@example.com", "wrong password", header("X-Forwarded-For", "2001:db8::1")).is(401)
	_, err := b.pool.Exec(t.Context(), "UPDATE login_attempts SET attempts = 100")
	require.NoError(t, err)
	b.guess(ada.email, testPassword, header("X-Forwarded-For", "2001:db8::2")).problem(429, "too-many-attempts")
	b.guess(ada.email, testPassword, header("X-Forwarded-For", "2001:db8:0:1::2")).is(200)
	b.guess(ada.email, testPassword, header("X-Forwarded-For", "192.0.2.7")).is(200)

	_, err = config.LoadFrom[api.Config](map[string]string{"JWT_SIGNING_KEY_FILE": "f", "TRUSTED_PROXIES": "10.0.0.0/8,ingress"})
	require.ErrorContains(t, err, "TRUSTED_PROXIES")
}

// TestLoginThrottleBurst guesses many times at once: no more than the limit get through.
func TestLoginThrottleBurst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	statuses := make([]int, 30)
	var wg sync.WaitGroup
	for i := range statuses {
		wg.Go(func() { statuses[i] = b.guess("nobody@example.com", "wrong password").status })
	}
	wg.Wait()
	count := map[int]int{}
	for _, status := range statuses {
		count[status]++
	}
	require.Equal(t, map[int]int{http.StatusUnauthorized: 10, http.StatusTooManyRequests: 20}, count)
}
