package pgtest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

func TestEachDatabaseIsItsOwn(t *testing.T) {
	t.Parallel()
	first, second := pgtest.New(t), pgtest.New(t)
	_, err := first.Exec(t.Context(), "INSERT INTO outbox (event_id, aggregate_id, payload) VALUES (gen_random_uuid(), gen_random_uuid(), '{}')")
	require.NoError(t, err)
	var rows int
	require.NoError(t, second.QueryRow(t.Context(), "SELECT count(*) FROM outbox").Scan(&rows))
	require.Zero(t, rows)
}
