package jobpage_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/postgres/jobpage"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

// TestPagesAreReadByIndexes fills the table with finished jobs and looks at how many pages of it each list touches: none of them walks through all jobs.
func TestPagesAreReadByIndexes(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	ctx := t.Context()
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := pool.Exec(ctx, sql, args...)
		require.NoError(t, err)
	}
	user, collection := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	exec("INSERT INTO users (id, email, display_name, password_hash) VALUES ($1, 'a@example.com', 'a', '')", user)
	exec("INSERT INTO collections (id, name, created_by) SELECT gen_random_uuid(), 'c', $1 FROM generate_series(1, 20)", user)
	exec("INSERT INTO collections (id, name, created_by) VALUES ($1, 'mine', $2)", collection, user)
	exec("INSERT INTO memberships (id, collection_id, user_id, role) VALUES (gen_random_uuid(), $1, $2, 'editor')", collection, user)
	// Ids in the order of time, as UUIDv7s are. One job in 5,000 went wrong, one in 10,000 is a rare type's, the last 50 are not finished.
	exec(`INSERT INTO jobs (id, type, state, collection_id, created_at)
		SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
			CASE WHEN n % 10000 = 1 THEN 'reindex' ELSE 'enrich' END,
			CASE WHEN n > 49950 THEN 'QUEUED' WHEN n % 5000 = 2 THEN 'FAILED' ELSE 'SUCCEEDED' END, c[1 + n % 21], at
		FROM generate_series(1, 50000) AS n, (SELECT array_agg(id ORDER BY name) AS c FROM collections) AS k,
			LATERAL (SELECT now() - make_interval(secs => (50000 - n) * 60) AS at) AS t`)
	exec("ANALYZE jobs")
	exec("VACUUM jobs")
	var pages int64
	require.NoError(t, pool.QueryRow(ctx, "SELECT pg_relation_size('jobs') / 8192").Scan(&pages))
	after, before := time.Now().Add(-20*24*time.Hour), time.Now().Add(-19*24*time.Hour)
	for name, q := range map[string]jobpage.Query{
		"all":                          {},
		"a state that most have":       {States: []string{"SUCCEEDED"}},
		"what went wrong":              {States: []string{"FAILED", "CANCELLED"}},
		"unfinished":                   {States: []string{"QUEUED", "RUNNING"}},
		"a rare type":                  {Types: []string{"reindex"}},
		"a rare type that went wrong":  {Types: []string{"reindex"}, States: []string{"FAILED"}},
		"two types":                    {Types: []string{"reindex", "enrich"}},
		"a day of long ago":            {CreatedAfter: &after, CreatedBefore: &before},
		"a collection":                 {Collection: &collection},
		"a collection's unfinished":    {Collection: &collection, States: []string{"QUEUED"}},
		"a member's":                   {Member: &user},
		"a key":                        {Key: new("k"), Creator: user},
		"a key of Atlas itself":        {Key: new("k"), Types: []string{"enrich"}},
		"a member's key":               {Member: &user, Key: new("k"), Creator: user},
		"a member's, of a common type": {Member: &user, Types: []string{"enrich"}},
	} {
		t.Run(name, func(t *testing.T) {
			q.Before, q.Size = uuid.Max, 21
			for range 7 { // as the statements of a connection are planned in the end
				_, err := jobpage.Read(ctx, pool, q)
				require.NoError(t, err)
			}
			touched := buffers(t, pool, q)
			require.Less(t, touched, int64(60), "of %d pages", pages)
		})
	}
}

func buffers(t *testing.T, pool *pgxpool.Pool, q jobpage.Query) int64 {
	t.Helper()
	sql, args := jobpage.Statement(q)
	var raw []byte
	require.NoError(t, pool.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+sql, args...).Scan(&raw))
	var plans []struct {
		Plan struct {
			Hit  int64 `json:"Shared Hit Blocks"`
			Read int64 `json:"Shared Read Blocks"`
		}
	}
	require.NoError(t, json.Unmarshal(raw, &plans))
	t.Logf("%d pages\n%s", plans[0].Plan.Hit+plans[0].Plan.Read, sql)
	return plans[0].Plan.Hit + plans[0].Plan.Read
}
