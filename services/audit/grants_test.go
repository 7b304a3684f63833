package audit_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/services/audit"
)

// TestAUserOfItsOwnIsEnough gives a role the grants that the documentation prints: they suffice to write and to verify, and for nothing else.
func TestAUserOfItsOwnIsEnough(t *testing.T) {
	t.Parallel()
	ctx, owner := t.Context(), pgtest.New(t)
	role := "audit_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	doc, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	grants := regexp.MustCompile("(?s)```sql\n(CREATE ROLE atlas_audit .*?)```").FindSubmatch(doc)
	require.NotNil(t, grants)
	_, err = owner.Exec(ctx, strings.ReplaceAll(string(grants[1]), "atlas_audit", role))
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := owner.Exec(context.Background(), fmt.Sprintf("DROP OWNED BY %[1]s; DROP ROLE %[1]s", role))
		require.NoError(t, err)
	})
	cfg := owner.Config()
	cfg.ConnConfig.User, cfg.ConnConfig.Password = role, "choose one"
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)

	w := audit.NewWriter(pool)
	first := message(t, 0, 0, envelope(t, `{}`))
	require.Empty(t, handle(t, w, first, message(t, 0, 1, envelope(t, `{}`))))
	require.Empty(t, handle(t, w, first, message(t, 0, 2, envelope(t, `{}`))))
	require.Equal(t, 3, verify(t, pool))
	for _, refused := range []string{
		"UPDATE audit_events SET data = '{}'", "DELETE FROM audit_events", "TRUNCATE audit_events", "ALTER TABLE audit_events DISABLE TRIGGER ALL",
		"DELETE FROM audit_heads", "SELECT audit_prune_segment(0, 1)", "SELECT * FROM users", "DELETE FROM audit_segments", "SET session_replication_role = replica",
	} {
		_, err := pool.Exec(ctx, refused)
		var failure *pgconn.PgError
		require.ErrorAs(t, err, &failure, refused)
		require.Equal(t, "42501", failure.Code, refused)
	}
}
