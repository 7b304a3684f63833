package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// personal makes an API token.
func (b *testBundle) personal(user *account, scopes ...string) (token *account, id string) {
	b.t.Helper()
	a := b.call(user, "POST", "/v1/tokens", map[string]any{
		"name": "script", "scopes": scopes, "expires_at": time.Now().Add(time.Hour).Format(time.RFC3339),
	}).is(201)
	return &account{token: a.body["token"].(string)}, a.id()
}

func TestAPITokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	script, id := b.personal(ada, "write", "read", "read")
	require.Regexp(t, `^atlas_pat_[A-Za-z0-9_-]{43}$`, script.token)
	list := b.call(ada, "GET", "/v1/tokens", nil).is(200)
	require.NotContains(t, string(list.raw), script.token)
	require.Nil(t, list.items()[0]["last_used_at"])
	require.Equal(t, []any{"read", "write"}, list.items()[0]["scopes"])

	b.collection(script, "c")
	b.call(script, "GET", "/v1/me", nil).is(200)
	used := func() any { return b.call(ada, "GET", "/v1/tokens", nil).is(200).items()[0]["last_used_at"] }
	first := used()
	require.NotNil(t, first)
	b.call(script, "GET", "/v1/me", nil).is(200)
	require.Equal(t, first, used(), "written once a minute")
	_, err := b.pool.Exec(t.Context(), "UPDATE api_tokens SET last_used_at = now() - interval '61 seconds'")
	require.NoError(t, err)
	b.call(script, "GET", "/v1/me", nil).is(200)
	require.Greater(t, used(), first)

	_, other := b.personal(ada, "read")
	page := b.call(ada, "GET", "/v1/tokens?limit=1", nil).is(200)
	require.Equal(t, other, page.items()[0]["id"])
	page = b.call(ada, "GET", "/v1/tokens?limit=1&cursor="+page.body["next_cursor"].(string), nil).is(200)
	require.Equal(t, id, page.items()[0]["id"])
	require.Nil(t, page.body["next_cursor"])
	require.Empty(t, b.call(eve, "GET", "/v1/tokens", nil).is(200).items())
	b.call(eve, "DELETE", "/v1/tokens/"+id, nil).problem(404, "not-found")
	b.call(ada, "DELETE", "/v1/tokens/"+id, nil).is(204)
	b.call(script, "GET", "/v1/me", nil).problem(401, "unauthenticated")
	b.call(&account{token: "atlas_pat_unknown"}, "GET", "/v1/me", nil).problem(401, "unauthenticated")

	for name, body := range map[string]map[string]any{
		"/name":       {"name": " ", "scopes": []string{"read"}, "expires_at": time.Now().Add(time.Hour)},
		"/scopes":     {"name": "n", "scopes": []string{}, "expires_at": time.Now().Add(time.Hour)},
		"/scopes/0":   {"name": "n", "scopes": []string{"all"}, "expires_at": time.Now().Add(time.Hour)},
		"/expires_at": {"name": "n", "scopes": []string{"read"}, "expires_at": time.Now().Add(-time.Hour)},
	} {
		b.call(ada, "POST", "/v1/tokens", body).problem(422, "validation", name)
	}
	b.call(ada, "POST", "/v1/tokens", map[string]any{
		"name": "n", "scopes": []string{"admin"}, "expires_at": time.Now().Add(400 * 24 * time.Hour),
	}).problem(422, "validation", "/scopes", "/expires_at")
	_, err = b.pool.Exec(t.Context(), `INSERT INTO api_tokens (id, user_id, name, scopes, hash, expires_at)
		SELECT gen_random_uuid(), $1, 'n', '{read}', int4send(n), now() FROM generate_series(1, 100) n`, eve.id)
	require.NoError(t, err)
	b.call(eve, "POST", "/v1/tokens", map[string]any{"name": "n", "scopes": []string{"read"}, "expires_at": time.Now().Add(time.Hour)}).
		problem(409, "too-many-tokens")
}

func TestAPITokensEnd(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]string{
		"expired": "UPDATE api_tokens SET expires_at = now()", "disabled": "UPDATE users SET disabled_at = now()",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			script, _ := b.personal(b.account("ada"), "read")
			b.call(script, "GET", "/v1/me", nil).is(200)
			_, err := b.pool.Exec(t.Context(), end)
			require.NoError(t, err)
			b.call(script, "GET", "/v1/me", nil).problem(401, "unauthenticated")
		})
	}
}

func TestAPITokensAreNoLogin(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.admin("admin")
	all, id := b.personal(admin, "read", "write", "admin")
	plain, _ := b.personal(admin, "read", "write")
	b.call(all, "GET", "/v1/users", nil).is(200)
	b.call(plain, "GET", "/v1/users", nil).problem(403, "forbidden")
	for _, tt := range []struct {
		method, path string
		body         any
	}{
		{"GET", "/v1/sessions", nil},
		{"DELETE", "/v1/sessions/" + id, nil},
		{"GET", "/v1/tokens", nil},
		{"DELETE", "/v1/tokens/" + id, nil},
		{"POST", "/v1/tokens", map[string]any{"name": "n", "scopes": []string{"read"}, "expires_at": time.Now().Add(time.Hour)}},
		{"POST", "/v1/me/password", map[string]any{"current_password": testPassword, "new_password": "a new password"}},
	} {
		a := b.call(all, tt.method, tt.path, tt.body).problem(403, "forbidden")
		require.True(t, strings.Contains(a.body["detail"].(string), "needs a login"), "%s %s", tt.method, tt.path)
	}
}
