package migrate_test

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/services/migrate"
)

func TestCreateAdmin(t *testing.T) {
	t.Parallel()
	url := pgtest.NewURL(t)
	pool := pgtest.Open(t, url)
	cfg := migrate.GrantConfig{Database: config.Database{URL: url, MaxConns: 2}}
	logger := slog.New(slog.DiscardHandler)
	require.ErrorContains(t, migrate.CreateAdmin(t.Context(), cfg, "ada", "long enough", logger), "not an e-mail address")
	require.ErrorContains(t, migrate.CreateAdmin(t.Context(), cfg, "ada@example.com", "short", logger), "8 to 128 characters")
	require.NoError(t, migrate.CreateAdmin(t.Context(), cfg, "Ada@Example.com", "long enough", logger))
	require.ErrorContains(t, migrate.CreateAdmin(t.Context(), cfg, "ada@example.com", "another one", logger), "already")
	var admins int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM users WHERE is_admin AND email = 'ada@example.com'").Scan(&admins))
	require.Equal(t, 1, admins)
}

func TestGrantAdmin(t *testing.T) {
	t.Parallel()
	url := pgtest.NewURL(t)
	pool := pgtest.Open(t, url)
	cfg := migrate.GrantConfig{Database: config.Database{URL: url, MaxConns: 2}}
	logger := slog.New(slog.DiscardHandler)
	require.ErrorContains(t, migrate.GrantAdmin(t.Context(), cfg, "ada@example.com", logger), "no account with the e-mail ada@example.com")
	_, err := pool.Exec(t.Context(), "INSERT INTO users (id, email, password_hash) VALUES (gen_random_uuid(), 'ada@example.com', 'none')")
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, migrate.GrantAdmin(t.Context(), cfg, "Ada@Example.com", logger))
	}
	var admin bool
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT is_admin FROM users").Scan(&admin))
	require.True(t, admin)
	_, err = pool.Exec(t.Context(), "UPDATE users SET disabled_at = now()")
	require.NoError(t, err)
	require.ErrorContains(t, migrate.GrantAdmin(t.Context(), cfg, "ada@example.com", logger), "disabled")
}
