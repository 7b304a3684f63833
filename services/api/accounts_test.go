package api_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/password"
)

func TestRegisterLoginAndMe(t *testing.T) {
	t.Parallel()
	b := setup(t)
	registered := b.call(nil, "POST", "/v1/auth/register", map[string]any{
		"email": "Ada@Example.COM", "password": testPassword, "display_name": "Ada",
	}).is(201)
	require.Equal(t, "ada@example.com", registered.body["email"])
	require.Equal(t, "Ada", registered.body["display_name"])
	require.Equal(t, false, registered.body["is_admin"])
	require.NotContains(t, string(registered.raw), "argon2")

	b.call(nil, "POST", "/v1/auth/register", map[string]any{"email": "ada@example.com", "password": testPassword}).problem(409, "email-taken")

	login := b.call(nil, "POST", "/v1/auth/login", map[string]any{"email": "ADA@example.com", "password": testPassword}).is(200)
	require.Equal(t, "Bearer", login.body["token_type"])
	require.InDelta(t, 900, login.body["expires_in"], 0)
	ada := &account{token: login.body["access_token"].(string)}
	require.Equal(t, registered.body, b.call(ada, "GET", "/v1/me", nil).is(200).body)

	wrong := b.call(nil, "POST", "/v1/auth/login", map[string]any{"email": "ada@example.com", "password": "wrong password"}).problem(401, "unauthenticated")
	unknown := b.call(nil, "POST", "/v1/auth/login", map[string]any{"email": "eve@example.com", "password": "wrong password"}).problem(401, "unauthenticated")
	require.Equal(t, wrong.body["detail"], unknown.body["detail"])
	require.NotEmpty(t, wrong.header.Get("WWW-Authenticate"))
	require.Empty(t, b.envelopes(), "accounts are not part of the events contract")
}

func TestDisabledUsersAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.call(nil, "POST", "/v1/auth/register", map[string]any{"email": "ada@example.com", "password": testPassword}).is(201).id()
	login := map[string]any{"email": "ada@example.com", "password": testPassword}
	ada := &account{token: b.call(nil, "POST", "/v1/auth/login", login).is(200).body["access_token"].(string)}
	_, err := b.pool.Exec(t.Context(), "UPDATE users SET disabled_at = now() WHERE id = $1", id)
	require.NoError(t, err)
	b.call(nil, "POST", "/v1/auth/login", login).problem(403, "forbidden")
	b.call(ada, "GET", "/v1/me", nil).problem(401, "unauthenticated")
}

func TestLoginReplacesAnOutdatedHash(t *testing.T) {
	t.Parallel()
	b := setup(t)
	old, err := password.NewHasher(password.Parameters{MemoryKiB: 1024, Iterations: 1, Parallelism: 1}, 1).Hash(t.Context(), testPassword)
	require.NoError(t, err)
	ada := b.account("ada")
	_, err = b.pool.Exec(t.Context(), "UPDATE users SET password_hash = $1", old)
	require.NoError(t, err)
	b.call(nil, "POST", "/v1/auth/login", map[string]any{"email": ada.email, "password": testPassword}).is(200)
	var stored string
	require.NoError(t, b.pool.QueryRow(t.Context(), "SELECT password_hash FROM users").Scan(&stored))
	require.NotEqual(t, old, stored)
	require.Contains(t, stored, "$m=19456,t=2,p=1$")
	b.call(nil, "POST", "/v1/auth/login", map[string]any{"email": ada.email, "password": testPassword}).is(200)
}

func TestUnauthenticatedCallsAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	expired, err := b.issuer.MintService("system:operator", -time.Hour)
	require.NoError(t, err)
	for name, value := range map[string]string{
		"none": "", "basic": "Basic YTpi", "garbage": "Bearer garbage", "no scheme": ada.token, "tampered": "Bearer " + ada.token + "x",
		"expired": "Bearer " + expired, "two": "Bearer " + ada.token + " " + ada.token,
	} {
		a := b.call(nil, "GET", "/v1/me", nil, header("Authorization", value)).problem(401, "unauthenticated")
		require.Contains(t, a.header.Get("WWW-Authenticate"), `Bearer realm="atlas"`, name)
	}
	b.call(nil, "GET", "/v1/me", nil, header("Authorization", "bearer "+ada.token)).is(200)
	b.call(b.operator(), "GET", "/v1/me", nil).problem(403, "forbidden")
	b.call(b.operator(), "POST", "/v1/collections", map[string]any{"name": "x"}).problem(403, "forbidden")
	// Authentication comes before everything that tells about the input.
	b.call(nil, "POST", "/v1/items", "}{").problem(401, "unauthenticated")
}
