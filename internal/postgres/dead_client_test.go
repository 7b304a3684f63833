package postgres_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

// TestServerNoticesADeadClient: a machine that is gone says no goodbye, and its locks would stay.
func TestServerNoticesADeadClient(t *testing.T) {
	t.Parallel()
	var transaction, idle string
	require.NoError(t, pgtest.New(t).QueryRow(t.Context(),
		"SELECT current_setting('idle_in_transaction_session_timeout'), current_setting('tcp_keepalives_idle')").Scan(&transaction, &idle))
	require.Equal(t, "1min", transaction)
	require.Equal(t, "15", idle)
}
