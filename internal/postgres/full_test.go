package postgres_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

// TestRequestsOutliveAPassword of the role that they come as: whoever changes it can't change the pods' Secret in the same moment.
func TestRequestsOutliveAPassword(t *testing.T) {
	t.Parallel()
	const conns = 4
	address := pgtest.NewURL(t)
	admin := pgtest.Open(t, address)
	role := "atlas_" + uuid.NewString()[:8]
	run := func(ctx context.Context, pool *pgxpool.Pool, statement string) error {
		_, err := pool.Exec(ctx, statement)
		return err
	}
	require.NoError(t, run(t.Context(), admin, "CREATE ROLE "+role+" LOGIN PASSWORD 'first'"))
	t.Cleanup(func() { require.NoError(t, run(context.Background(), admin, "DROP ROLE "+role)) })
	parsed, err := url.Parse(address)
	require.NoError(t, err)
	parsed.User = url.UserPassword(role, "first")
	pool, err := postgres.OpenFull(t.Context(), parsed.String(), conns)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.Eventually(t, func() bool { return pool.Stat().IdleConns() == conns }, time.Minute, 10*time.Millisecond)

	require.NoError(t, run(t.Context(), admin, "ALTER ROLE "+role+" PASSWORD 'second'"))
	_, err = postgres.Connect(t.Context(), pool, time.Second) // beside the pool
	require.ErrorContains(t, err, "password authentication failed")
	var group errgroup.Group
	for range 3 * conns {
		group.Go(func() error { return run(t.Context(), pool, "SELECT pg_sleep(0.01)") })
	}
	require.NoError(t, group.Wait())
}
