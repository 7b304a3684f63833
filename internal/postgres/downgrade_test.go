package postgres_test

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

// TestOlderReleaseLeavesTheDatabaseOfANewerOneAlone.
func TestOlderReleaseLeavesTheDatabaseOfANewerOneAlone(t *testing.T) {
	t.Parallel()
	url := pgtest.NewURL(t)
	pool := pgtest.Open(t, url)
	_, err := pool.Exec(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)")
	require.NoError(t, err)

	err = postgres.Migrate(t.Context(), url, slog.New(slog.DiscardHandler))
	var ahead *postgres.SchemaAheadError
	require.ErrorAs(t, err, &ahead)
	require.Equal(t, int64(99999), ahead.Version)
	require.Less(t, ahead.Known, ahead.Version)
	require.ErrorContains(t, err, "run a release that knows it, or restore a backup")

	// Back on a database that it knows, it goes on.
	_, err = pool.Exec(t.Context(), "DELETE FROM goose_db_version WHERE version_id = 99999")
	require.NoError(t, err)
	require.NoError(t, postgres.Migrate(t.Context(), url, slog.New(slog.DiscardHandler)))
}
