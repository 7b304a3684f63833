package postgres_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

func TestUUIDs(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	want := uuid.New()
	var id uuid.UUID
	var pointer, none *uuid.UUID
	var many []uuid.UUID
	var text string
	err := pool.QueryRow(t.Context(), "SELECT $1::uuid, $2::uuid, $3::uuid, $4::uuid[], $1::uuid::text", want, &want, none, []uuid.UUID{want, uuid.Nil}).
		Scan(&id, &pointer, &none, &many, &text)
	require.NoError(t, err)
	require.Equal(t, want, id)
	require.Equal(t, &want, pointer)
	require.Nil(t, none)
	require.Equal(t, []uuid.UUID{want, uuid.Nil}, many)
	require.Equal(t, want.String(), text)
	require.Error(t, pool.QueryRow(t.Context(), "SELECT NULL::uuid").Scan(&id))

	rows, err := pool.Query(t.Context(), "SELECT unnest($1::uuid[])", many)
	require.NoError(t, err)
	for n := 0; rows.Next(); n++ {
		require.Equal(t, [][]byte{many[n][:]}, rows.RawValues(), "not as text")
	}
	require.NoError(t, rows.Err())
}
