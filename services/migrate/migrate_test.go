package migrate_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/password"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/services/migrate"
)

func writePassword(t *testing.T, secret string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(path, []byte(secret), 0o600))
	return path
}

func TestRunMigratesAndEnsuresTheAdmin(t *testing.T) {
	t.Parallel()
	url := pgtest.NewEmptyURL(t)
	cfg := migrate.Config{
		Database: config.Database{URL: url, MaxConns: 2},
		Admin:    migrate.Admin{Email: "Admin@Example.com", PasswordFile: writePassword(t, "first password\n")},
	}
	logger := slog.New(slog.DiscardHandler)
	hasher := password.NewHasher(password.Minimum, 1)
	q := db.New(pgtest.Open(t, url))
	check := func(secret string) db.User {
		t.Helper()
		user, err := q.GetUserByEmail(t.Context(), "admin@example.com")
		require.NoError(t, err)
		require.True(t, user.IsAdmin)
		require.Nil(t, user.DisabledAt)
		match, _, err := hasher.Verify(t.Context(), user.PasswordHash, secret)
		require.NoError(t, err)
		require.True(t, match)
		return user
	}

	require.NoError(t, migrate.Run(t.Context(), cfg, logger))
	created := check("first password")
	require.NoError(t, migrate.Run(t.Context(), cfg, logger))
	require.Equal(t, created, check("first password"), "running it again changes nothing")

	cfg.Admin.PasswordFile = writePassword(t, "second password")
	require.NoError(t, migrate.Run(t.Context(), cfg, logger))
	require.Equal(t, created.ID, check("second password").ID)

	_, err := pgtest.Open(t, url).Exec(t.Context(), "UPDATE users SET is_admin = false, disabled_at = now()")
	require.NoError(t, err)
	require.NoError(t, migrate.Run(t.Context(), cfg, logger))
	check("second password")
}

func TestRunNamesAWrongPasswordFile(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"missing": filepath.Join(t.TempDir(), "none"), "short": writePassword(t, "short\n")} {
		err := migrate.Run(t.Context(), migrate.Config{Admin: migrate.Admin{Email: "a@b.c", PasswordFile: path}}, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, "BOOTSTRAP_ADMIN_PASSWORD_FILE", name)
		require.NotContains(t, err.Error(), "short\n", name)
	}
}

func TestConfigNamesEveryWrongVariable(t *testing.T) {
	t.Parallel()
	_, err := config.LoadFrom[migrate.Config](map[string]string{"BOOTSTRAP_ADMIN_EMAIL": "nobody", "LOG_FORMAT": "xml"})
	for _, variable := range []string{"DATABASE_URL", "BOOTSTRAP_ADMIN_PASSWORD_FILE", "BOOTSTRAP_ADMIN_EMAIL=", "LOG_FORMAT"} {
		require.ErrorContains(t, err, variable)
	}
	_, err = config.LoadFrom[migrate.Config](map[string]string{"DATABASE_URL": "postgres://u@h/d"})
	require.NoError(t, err)
}
