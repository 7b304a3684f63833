package api_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/token"
	"github.com/atlas-platform/atlas/services/api"
)

func TestUsersForAdmins(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin, ada := b.admin("admin"), b.withPassword("ada")
	page := b.call(admin, "GET", "/v1/users?limit=1", nil).is(200)
	require.Equal(t, ada.email, page.items()[0]["email"])
	require.Equal(t, false, page.items()[0]["disabled"])
	require.NotContains(t, string(page.raw), "argon2")
	page = b.call(admin, "GET", "/v1/users?limit=1&cursor="+page.body["next_cursor"].(string), nil).is(200)
	require.Equal(t, admin.email, page.items()[0]["email"])
	require.Equal(t, true, page.items()[0]["is_admin"])
	require.Nil(t, page.body["next_cursor"])

	p := b.login(ada)
	path := "/v1/users/" + ada.id
	b.call(ada, "PATCH", path, map[string]any{"disabled": true}).problem(403, "forbidden")
	b.call(admin, "PATCH", path, map[string]any{}).problem(422, "validation", "/disabled")
	for range 2 {
		require.Equal(t, true, b.call(admin, "PATCH", path, map[string]any{"disabled": true}).is(200).body["disabled"])
	}
	b.call(&p.account, "GET", "/v1/me", nil).problem(401, "unauthenticated")
	b.guess(ada.email, testPassword).problem(403, "forbidden")
	require.Equal(t, false, b.call(admin, "PATCH", path, map[string]any{"disabled": false}).is(200).body["disabled"])
	b.call(&p.account, "GET", "/v1/me", nil).problem(401, "unauthenticated")
	b.refresh(p.refresh).problem(401, "unauthenticated")
	b.login(ada)

	b.call(admin, "PATCH", "/v1/users/"+admin.id, map[string]any{"disabled": true}).problem(409, "self")
	b.call(admin, "PATCH", "/v1/users/"+b.collection(ada, "c"), map[string]any{"disabled": true}).problem(404, "not-found")
}

func TestRegistrationCanBeClosed(t *testing.T) {
	t.Parallel()
	b := setupWith(t, nil, nil, func(c *api.Config) { c.Registration = "closed" })
	ada := b.account("ada")
	for _, email := range []string{ada.email, "eve@example.com"} {
		b.call(nil, "POST", "/v1/auth/register", map[string]any{"email": email, "password": testPassword}).problem(403, "forbidden")
	}
	made := map[string]any{"email": "Eve@example.com", "password": testPassword, "display_name": "Eve"}
	account := b.call(b.admin("admin"), "POST", "/v1/users", made).is(201)
	require.Equal(t, false, account.body["is_admin"])
	b.call(b.admin("another admin"), "POST", "/v1/users", made).problem(409, "email-taken")
	b.call(ada, "POST", "/v1/users", made).problem(403, "forbidden")
	b.call(nil, "POST", "/v1/auth/login", map[string]any{"email": "eve@example.com", "password": testPassword}).is(200)

	_, err := config.LoadFrom[api.Config](map[string]string{"JWT_SIGNING_KEY_FILE": "f", "REGISTRATION": "ajar"})
	require.ErrorContains(t, err, "REGISTRATION")
	require.ErrorContains(t, err, "JWT_SIGNING_KEY_FILE", "a key that can't be read is named with the rest")
	key, err := token.GenerateSigningKey()
	require.NoError(t, err)
	keyFile := filepath.Join(t.TempDir(), "signing-key.pem")
	require.NoError(t, os.WriteFile(keyFile, key, 0o600))
	cfg, err := config.LoadFrom[api.Config](map[string]string{"JWT_SIGNING_KEY_FILE": keyFile})
	require.NoError(t, err)
	require.Equal(t, "open", cfg.Registration)
}
