package api_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/token"
	"github.com/atlas-platform/atlas/services/api"
)

func limited(requests int) func(*api.Config) {
	return func(c *api.Config) { c.RateLimit, c.TrustedProxies = requests, []string{"127.0.0.0/8", "::1/128"} }
}

func TestQuotaOfACaller(t *testing.T) {
	t.Parallel()
	b := setupWith(t, nil, nil, limited(5)) // one more each 12 s
	ada, eve := b.account("ada"), b.account("eve")
	_, script := b.apiToken(ada, "read")
	for i := range 3 {
		a := b.call(ada, "GET", "/v1/me", nil).is(200)
		require.Regexp(t, fmt.Sprintf(`^"requests";r=%d;t=\d+$`, 3-i), a.header.Get("RateLimit"))
		require.Equal(t, `"requests";q=5;w=60`, a.header.Get("RateLimit-Policy"))
	}
	require.Contains(t, b.call(script, "GET", "/v1/nothing", nil).header, "X-Request-Id") // no operation: not counted
	a := b.call(script, "DELETE", "/v1/tokens/x", nil).problem(403, "forbidden")
	require.Contains(t, a.header.Get("RateLimit"), `r=0;t=`, "an API token counts for its user")
	for _, user := range []*account{ada, script} {
		a := b.call(user, "GET", "/v1/me", nil).problem(429, "too-many-requests")
		wait, err := strconv.Atoi(a.header.Get("Retry-After"))
		require.NoError(t, err)
		require.InDelta(t, 6, wait, 6)
		require.Contains(t, a.header.Get("RateLimit"), `"requests";r=0;t=`)
	}
	b.call(eve, "GET", "/v1/me", nil).is(200)
	for range 20 {
		require.Equal(t, 200, b.call(ada, "GET", "/livez", nil).status)
		b.call(ada, "OPTIONS", "/v1/me", nil).is(204)
		require.Empty(t, b.call(ada, "GET", "/openapi.json", nil).header.Get("RateLimit"))
	}
	b.call(b.operator(), "GET", "/v1/jobs", nil).is(200)
}

func TestQuotaOfAnAddress(t *testing.T) {
	t.Parallel()
	b := setupWith(t, nil, nil, limited(4))
	ada := b.account("ada")
	from := func(address string) option { return header("X-Forwarded-For", address) }
	forged := &account{token: ada.token[:len(ada.token)-3] + "AAA"}
	for range 2 {
		b.call(nil, "GET", "/v1/me", nil, from("192.0.2.1")).problem(401, "unauthenticated")
		b.call(forged, "GET", "/v1/me", nil, from("192.0.2.1")).problem(401, "unauthenticated")
	}
	b.call(nil, "GET", "/v1/me", nil, from("192.0.2.1")).problem(429, "too-many-requests")
	b.call(nil, "GET", "/.well-known/jwks.json", nil, from("192.0.2.1")).problem(429, "too-many-requests")
	b.call(ada, "GET", "/v1/me", nil, from("192.0.2.1")).is(200)
	b.call(nil, "GET", "/.well-known/jwks.json", nil, from("192.0.2.2")).is(200)
	for i := range 4 {
		b.call(nil, "GET", "/.well-known/jwks.json", nil, from(fmt.Sprintf("2001:db8::%d", i))).is(200)
	}
	b.call(nil, "GET", "/.well-known/jwks.json", nil, from("2001:db8::ffff:1")).problem(429, "too-many-requests")
	b.call(nil, "GET", "/.well-known/jwks.json", nil, from("2001:db8:0:1::1")).is(200)

	a := b.guess("nobody@example.com", "wrong password", from("192.0.2.3")).problem(401, "unauthenticated")
	require.Regexp(t, `^"account";r=9;t=\d+, "address";r=99;t=\d+, "requests";r=3;t=\d+$`, a.header.Get("RateLimit"))
	require.Equal(t, `"account";q=10;w=300, "address";q=100;w=300, "requests";q=4;w=60`, a.header.Get("RateLimit-Policy"))
	require.Len(t, a.header.Values("RateLimit"), 1)
}

// TestGuessesDoNotReachTheDatabase: an API token that nobody knows takes a query, but no more of them than the address may make requests.
func TestGuessesDoNotReachTheDatabase(t *testing.T) {
	t.Parallel()
	counter := &trips{}
	cfg := pgtest.New(t).Config()
	cfg.ConnConfig.Tracer = counter
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	b := setupWith(t, pool, nil, limited(5))
	_, script := b.apiToken(b.account("ada"), "read")
	before := counter.n.Load()
	for i := range 20 {
		guess := b.call(&account{token: fmt.Sprintf("atlas_pat_%d", i)}, "GET", "/v1/me", nil)
		if i < 5 {
			guess.problem(401, "unauthenticated")
		} else {
			guess.problem(429, "too-many-requests")
		}
	}
	require.LessOrEqual(t, counter.n.Load()-before, int64(2*5), "preparing the statement counts too")
	b.call(script, "GET", "/v1/me", nil, header("X-Forwarded-For", "192.0.2.1")).is(200)
	b.call(script, "GET", "/v1/me", nil).is(200) // it is known by now
}

// TestOnlyTheProxysHeaderNamesTheCaller: others come from the caller as they are.
func TestOnlyTheProxysHeaderNamesTheCaller(t *testing.T) {
	t.Parallel()
	b := setupWith(t, nil, nil, limited(2))
	for i, forwarded := range []string{"", "192.0.2.1:4711", "unknown"} {
		for _, name := range []string{"X-Real-IP", "Forwarded", "CF-Connecting-IP", "True-Client-IP"} {
			b.call(nil, "GET", "/v1/me", nil, header(name, fmt.Sprintf("198.51.100.%d", i)), header("X-Forwarded-For", forwarded))
		}
		b.call(nil, "GET", "/v1/me", nil, header("X-Real-IP", "203.0.113.1"), header("X-Forwarded-For", forwarded)).problem(429, "too-many-requests")
	}
}

// TestEveryOperationHasAQuota also sees that each answer says what is left of it.
func TestEveryOperationHasAQuota(t *testing.T) {
	t.Parallel()
	b := setupWith(t, nil, nil, limited(1))
	var next atomic.Int64
	fresh := func(r *http.Request) { r.Header.Set("X-Forwarded-For", fmt.Sprintf("198.51.100.%d", next.Load())) }
	for i, op := range operations(t, nil) {
		next.Add(1)
		user := b.account(fmt.Sprintf("user%d", i))
		a := b.call(user, op.method, op.path, nil, fresh)
		require.NotEqual(t, 429, a.status, op.id)
		require.Regexp(t, `^"requests";r=0;t=\d+$`, a.header.Get("RateLimit"), op.id)
		b.call(user, op.method, op.path, nil, fresh).problem(429, "too-many-requests")
		if !op.public {
			b.call(nil, op.method, op.path, nil, fresh).problem(401, "unauthenticated")
			b.call(nil, op.method, op.path, nil, fresh).problem(429, "too-many-requests")
		}
	}
}

func TestConfigOfLimitsAndOrigins(t *testing.T) {
	t.Parallel()
	keyFile := filepath.Join(t.TempDir(), "key.pem")
	content, err := token.GenerateSigningKey()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(keyFile, content, 0o600))
	load := func(name, value string) (api.Config, error) {
		return config.LoadFrom[api.Config](map[string]string{"JWT_SIGNING_KEY_FILE": keyFile, name: value})
	}
	cfg, err := load("CORS_ORIGINS", "")
	require.NoError(t, err)
	require.Equal(t, 6000, cfg.RateLimit)
	require.Empty(t, cfg.CORSOrigins)
	for _, good := range []string{"*", "https://app.example.com", "http://localhost:3000,https://[::1]:8443"} {
		_, err := load("CORS_ORIGINS", good)
		require.NoError(t, err, good)
	}
	for _, bad := range []string{"app.example.com", "https://app.example.com/", "https://App.example.com", "*,https://a.example", "https://a.example:443", "http://", "null", "https://u@a.example"} {
		_, err := load("CORS_ORIGINS", bad)
		require.ErrorContains(t, err, "CORS_ORIGINS", bad)
	}
	for _, bad := range []string{"-1", "x", "1000001"} {
		_, err := load("RATE_LIMIT", bad)
		require.ErrorContains(t, err, "RATE", bad)
	}
	_, err = load("RATE_LIMIT", "0")
	require.NoError(t, err)
}
