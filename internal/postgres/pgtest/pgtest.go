// Package pgtest gives each test a database of its own on a real PostgreSQL server, copied from a template that has every migration.
package pgtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// templateLock is the advisory lock under which the template is made: test binaries of several packages run at the same time.
const templateLock = 0x41746c6173 // "Atlas"

// setupTimeout bounds the making of a database.
const setupTimeout = time.Minute

// New returns a pool on a fresh, migrated database, which is dropped when the test ends.
func New(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return Open(t, NewURL(t))
}

// NewURL returns the URI of a fresh, migrated database, which is dropped when the test ends.
func NewURL(t testing.TB) string {
	t.Helper()
	template := ensureTemplate(t)
	name := "test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	create(t, name, " TEMPLATE "+template)
	return withDatabase(t, name)
}

// NewEmptyURL returns the URI of a fresh database without any schema, which is dropped when the test ends.
func NewEmptyURL(t testing.TB) string {
	t.Helper()
	name := "test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	create(t, name, "")
	return withDatabase(t, name)
}

// Open returns a pool on uri, which is closed when the test ends.
func Open(t testing.TB, uri string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(context.Background(), uri, 8)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func create(t testing.TB, name, suffix string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	admin := connect(ctx, t)
	defer admin.Close(ctx) //nolint:errcheck // nothing is pending
	_, err := admin.Exec(ctx, "CREATE DATABASE "+name+suffix)
	require.NoError(t, err, "make the test's database")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
		defer cancel()
		admin := connect(ctx, t)
		defer admin.Close(ctx) //nolint:errcheck // nothing is pending
		_, err := admin.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
		require.NoError(t, err, "drop the test's database")
	})
}

// ensureTemplate makes the template once for each set of migrations, whichever test binary comes first.
func ensureTemplate(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	name := "template_" + migrationsHash(t)
	admin := connect(ctx, t)
	defer admin.Close(ctx) //nolint:errcheck // nothing is pending
	if exists(ctx, t, admin, name) {
		return name
	}
	_, err := admin.Exec(ctx, "SELECT pg_advisory_lock($1)", templateLock) // released when the connection closes
	require.NoError(t, err)
	if exists(ctx, t, admin, name) {
		return name
	}
	// Migrated under another name first: a template that exists is complete, even when a test binary died while it made one.
	draft := name + "_draft"
	_, err = admin.Exec(ctx, "DROP DATABASE IF EXISTS "+draft+" WITH (FORCE)")
	require.NoError(t, err)
	_, err = admin.Exec(ctx, "CREATE DATABASE "+draft)
	require.NoError(t, err)
	require.NoError(t, postgres.Migrate(ctx, withDatabase(t, draft), slog.New(slog.DiscardHandler)))
	_, err = admin.Exec(ctx, fmt.Sprintf("ALTER DATABASE %s RENAME TO %s", draft, name))
	require.NoError(t, err)
	return name
}

func exists(ctx context.Context, t testing.TB, conn *pgx.Conn, name string) bool {
	t.Helper()
	var found bool
	require.NoError(t, conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)", name).Scan(&found))
	return found
}

func connect(ctx context.Context, t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(ctx, testenv.Require(t, testenv.DatabaseURL))
	require.NoError(t, err, "reach the server of %s", testenv.DatabaseURL)
	return conn
}

func withDatabase(t testing.TB, name string) string {
	t.Helper()
	u, err := url.Parse(testenv.Require(t, testenv.DatabaseURL))
	require.NoError(t, err)
	u.Path = "/" + name
	return u.String()
}

func migrationsHash(t testing.TB) string {
	t.Helper()
	sum := sha256.New()
	files, err := fs.Glob(postgres.Migrations(), "*.sql")
	require.NoError(t, err)
	for _, file := range files {
		content, err := fs.ReadFile(postgres.Migrations(), file)
		require.NoError(t, err)
		sum.Write(fmt.Appendf(nil, "%s %d\n", file, len(content)))
		sum.Write(content)
	}
	return hex.EncodeToString(sum.Sum(nil)[:12])
}
