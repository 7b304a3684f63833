package postgres_test

import (
	"context"
	"database/sql"
	"log/slog"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

// provider runs single migrations.
func provider(t *testing.T, url string) *goose.Provider {
	t.Helper()
	conn, err := sql.Open("pgx", url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	p, err := goose.NewProvider(goose.DialectPostgres, conn, postgres.Migrations())
	require.NoError(t, err)
	return p
}

// TestMigrationWaitsWithoutHoldingUpOthers: a long transaction, such as a backup, keeps a table from being altered; who reads it meanwhile goes on.
func TestMigrationWaitsWithoutHoldingUpOthers(t *testing.T) {
	t.Parallel()
	url := pgtest.NewEmptyURL(t)
	_, err := provider(t, url).UpTo(t.Context(), 2)
	require.NoError(t, err)
	pool := pgtest.Open(t, url)
	backup, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer backup.Rollback(context.Background()) //nolint:errcheck // done below
	_, err = backup.Exec(t.Context(), "SELECT FROM items")
	require.NoError(t, err)

	done := make(chan error, 1)
	go func() { done <- postgres.Migrate(t.Context(), url, slog.New(slog.DiscardHandler)) }()
	waiting := func() (waits bool) {
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database
			WHERE d.datname = current_database() AND l.mode = 'AccessExclusiveLock' AND NOT l.granted)`).Scan(&waits))
		return waits
	}
	require.Eventually(t, waiting, time.Minute, 5*time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = pool.Exec(ctx, "SELECT FROM items")
	require.NoError(t, err, "a reader waits for the migration, which waits for the backup")
	require.Eventually(t, waiting, time.Minute, 5*time.Millisecond, "it tries again")
	require.NoError(t, backup.Rollback(t.Context()))
	require.NoError(t, <-done)
}

// TestMigrationsGoBackAndForth: down to each version and up again, two at a time, and over an index whose creation was interrupted.
func TestMigrationsGoBackAndForth(t *testing.T) {
	t.Parallel()
	url := pgtest.NewURL(t)
	pool := pgtest.Open(t, url)
	for _, version := range []int64{3, 2, 0} {
		_, err := provider(t, url).DownTo(t.Context(), version)
		require.NoError(t, err)
		if version == 3 {
			_, err := pool.Exec(t.Context(), "CREATE INDEX items_updated_idx ON items (title)")
			require.NoError(t, err)
		}
		var group sync.WaitGroup
		for range 2 {
			group.Go(func() {
				if err := postgres.Migrate(t.Context(), url, slog.New(slog.DiscardHandler)); err != nil {
					t.Errorf("from version %d: %v", version, err)
				}
			})
		}
		group.Wait()
		var indexes int
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
			WHERE i.indisvalid AND c.relname IN ('items_source_key', 'items_updated_idx', 'collections_deleted_at_idx')
			AND (c.relname <> 'items_updated_idx' OR pg_get_indexdef(c.oid) LIKE '%updated_at DESC%')`).Scan(&indexes))
		require.Equal(t, 3, indexes)
	}
}
