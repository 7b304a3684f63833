package auditchain

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

// stored writes a chain of n rows and its head, as the writer does.
func stored(t *testing.T, pool *pgxpool.Pool, partition int32, n int) []Link {
	t.Helper()
	chain := newChain(n)
	previous := Genesis()
	for i := range chain {
		l := &chain[i]
		l.Partition, l.PreviousHash = partition, previous
		l.Hash = l.Row.Hash(previous)
		previous = l.Hash
		insert(t, pool, l)
	}
	require.NoError(t, db.New(pool).MoveAuditHead(t.Context(), db.MoveAuditHeadParams{
		KafkaPartition: partition, ChainPosition: int64(n), Hash: previous, KafkaOffset: int64(n - 1),
	}))
	return chain
}

func insert(t *testing.T, pool *pgxpool.Pool, l *Link) {
	t.Helper()
	_, err := pool.Exec(t.Context(), `INSERT INTO audit_events (event_id, event_type, version, occurred_at, actor_user_id, trace_id, traceparent,
		entity_type, entity_id, collection_id, data, kafka_partition, kafka_offset, chain_position, recorded_at, previous_hash, hash)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`, l.EventID, l.EventType, l.Version, l.OccurredAt,
		l.ActorUserID, l.TraceID, l.Traceparent, l.EntityType, l.EntityID, l.CollectionID, l.Data, l.Partition, l.Offset, l.Position, l.RecordedAt,
		l.PreviousHash, l.Hash)
	require.NoError(t, err)
}

// tamper does what only a superuser can.
func tamper(t *testing.T, pool *pgxpool.Pool, statements ...string) {
	t.Helper()
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		for _, s := range append([]string{"SET LOCAL session_replication_role = replica"}, statements...) {
			if _, err := tx.Exec(t.Context(), s); err != nil {
				return err
			}
		}
		return nil
	}))
}

func verified(t *testing.T, pool *pgxpool.Pool, known ...Anchor) *Report {
	t.Helper()
	report, err := Verify(t.Context(), pool, VerifyOptions{Known: known})
	require.NoError(t, err)
	require.Len(t, report.Findings, int(report.Found))
	return report
}

// said is each certain finding, as "partition kind first-last".
func said(r *Report) []string {
	var out []string
	for _, f := range r.Findings {
		if !f.Suspected {
			b, _ := json.Marshal([]any{f.Partition, f.Kind, f.First, f.Last})
			out = append(out, string(b))
		}
	}
	return out
}

func TestVerifyNamesTheRowWhateverColumnWasChanged(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	to := map[string]string{
		"event_id": "gen_random_uuid()", "event_type": "'x'", "version": "2", "occurred_at": "now()", "actor_user_id": "gen_random_uuid()",
		"trace_id": "NULL", "traceparent": "NULL", "entity_type": "'x'", "entity_id": "gen_random_uuid()", "collection_id": "gen_random_uuid()",
		"data": `'{"n": 2}'`, "kafka_offset": "9", "previous_hash": "'x'", "hash": "'x'", "recorded_at": "now()",
		"kafka_partition": "77", "chain_position": "-1",
	}
	rows, err := pool.Query(t.Context(), "SELECT column_name::text FROM information_schema.columns WHERE table_name = 'audit_events'")
	require.NoError(t, err)
	columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Len(t, to, len(columns), "each column of the table is covered")
	for i, column := range columns {
		partition := int32(i)
		stored(t, pool, partition, 6)
		require.NotEmpty(t, to[column], column)
		p := uuid.NewString() // a comment: no two statements are the same
		tamper(t, pool, "UPDATE audit_events SET "+column+" = "+to[column]+" WHERE chain_position = 3 AND kafka_partition = "+jsonOf(i)+" -- "+p)
	}
	var want []string
	for i, column := range columns {
		switch column {
		case "kafka_partition":
			want = append(want, jsonOf(i, Removed, 3, 3), jsonOf(77, Inserted, 3, 3))
		case "chain_position":
			want = append(want, jsonOf(i, Moved, -1, -1))
		default:
			want = append(want, jsonOf(i, Changed, 3, 3))
		}
	}
	require.ElementsMatch(t, want, said(verified(t, pool)))
}

func jsonOf(values ...any) string {
	b, _ := json.Marshal(values)
	if len(values) == 1 {
		return strings.Trim(string(b), "[]")
	}
	return string(b)
}

func TestVerifyNamesRowsThatAreNotThereOrShouldNotBe(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	for p := range int32(7) {
		stored(t, pool, p, 6)
	}
	require.Empty(t, said(verified(t, pool)))
	earlier := verified(t, pool)

	tamper(t, pool, "DELETE FROM audit_events WHERE kafka_partition = 0 AND chain_position IN (2, 3)",
		"DELETE FROM audit_events WHERE kafka_partition = 1 AND chain_position > 4",
		"DELETE FROM audit_events WHERE kafka_partition = 2",
		// Two rows swap their places.
		`UPDATE audit_events SET chain_position = -chain_position WHERE kafka_partition = 3 AND chain_position IN (2, 5)`,
		`UPDATE audit_events SET chain_position = 7 + chain_position WHERE kafka_partition = 3 AND chain_position < 0`,
		// The end is cut off, with the head.
		"DELETE FROM audit_events WHERE kafka_partition = 4 AND chain_position > 4",
		"UPDATE audit_heads SET chain_position = 4, hash = (SELECT hash FROM audit_events WHERE kafka_partition = 4 AND chain_position = 4) WHERE kafka_partition = 4",
		// A whole partition vanishes.
		"DELETE FROM audit_events WHERE kafka_partition = 5", "DELETE FROM audit_heads WHERE kafka_partition = 5")
	r := verified(t, pool)
	require.Subset(t, said(r), []string{jsonOf(0, Removed, 2, 3), jsonOf(1, Removed, 5, 6), jsonOf(2, Removed, 1, 6), jsonOf(3, Moved, 2, 2), jsonOf(3, Moved, 5, 5)})
	require.Len(t, said(r), 5)
	// What the chain alone can't show, an earlier report does.
	require.ElementsMatch(t, append(said(r), jsonOf(4, Removed, 5, 6), jsonOf(5, Removed, 1, 6)), said(verified(t, pool, earlier.Heads()...)))

	// A row that is consistent with the chain, after its recorded head.
	pool = pgtest.New(t)
	chain := stored(t, pool, 0, 3)
	extra := chain[2]
	extra.EventID, extra.Position, extra.PreviousHash = uuid.New(), 4, chain[2].Hash
	extra.Hash = extra.Row.Hash(extra.PreviousHash)
	insert(t, pool, &extra)
	r = verified(t, pool)
	require.Len(t, r.Findings, 1)
	require.Equal(t, Finding{Kind: Inserted, First: 4, Last: 4, Suspected: true, Detail: r.Findings[0].Detail}, r.Findings[0])
}

// Random statements of a superuser are found in the database as they are in memory.
func TestVerifyFindsRandomTampering(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	sets := []string{"data = '{}'", "event_type = 'x'", "hash = 'x'", "previous_hash = 'x'", "actor_user_id = gen_random_uuid()", "kafka_offset = -1"}
	touched := map[int64]int64{}
	for p := range int64(25) {
		stored(t, pool, int32(p), 12)
		touched[p] = 1 + random.Int64N(12)
		where := " WHERE kafka_partition = " + jsonOf(p) + " AND chain_position = " + jsonOf(touched[p])
		if random.IntN(4) == 0 {
			tamper(t, pool, "DELETE FROM audit_events"+where)
		} else {
			tamper(t, pool, "UPDATE audit_events SET "+sets[random.IntN(len(sets))]+where)
		}
	}
	r := verified(t, pool)
	require.Len(t, said(r), len(touched))
	for p, position := range touched {
		require.True(t, slices.ContainsFunc(r.Findings, func(f Finding) bool {
			return int64(f.Partition) == p && f.First == position && f.Last == position && !f.Suspected
		}), "partition %d, row %d", p, position)
	}
}

// Rows that are put in, taken out or swapped with all others moved along are told from those that only moved along.
func TestVerifyTellsRowsFromThoseThatMovedAlong(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	var chains [][]Link
	for p := range int32(6) {
		chains = append(chains, stored(t, pool, p, 21))
	}
	shift := func(p, from, by int) []string { // by way of positions that nobody has
		where := " WHERE kafka_partition = " + jsonOf(p) + " AND chain_position "
		return []string{
			"UPDATE audit_events SET chain_position = -chain_position" + where + ">= " + jsonOf(from),
			"UPDATE audit_events SET chain_position = -chain_position + " + jsonOf(by) + where + "< 0",
		}
	}
	put := func(p int32, position int64) {
		extra := chains[p][2]
		extra.EventID, extra.Position = uuid.New(), position
		insert(t, pool, &extra)
	}
	tamper(t, pool, shift(0, 6, 1)...)
	put(0, 6)
	tamper(t, pool, "DELETE FROM audit_events WHERE kafka_partition = 1 AND chain_position = 5")
	tamper(t, pool, shift(1, 6, -1)...)
	put(2, 100)
	put(3, 22)
	tamper(t, pool, "UPDATE audit_events SET chain_position = -6 WHERE kafka_partition = 4 AND chain_position = 5",
		"UPDATE audit_events SET chain_position = 5 WHERE kafka_partition = 4 AND chain_position = 6",
		"UPDATE audit_events SET chain_position = 6 WHERE kafka_partition = 4 AND chain_position = -6")
	r := verified(t, pool)
	require.Equal(t, []string{
		jsonOf(0, Inserted, 6, 6), jsonOf(0, Renumbered, 7, 22), jsonOf(1, Removed, 5, 5), jsonOf(1, Renumbered, 5, 20), jsonOf(2, Inserted, 100, 100),
		jsonOf(3, Inserted, 22, 22), jsonOf(4, Moved, 5, 5), jsonOf(4, Moved, 6, 6),
	}, said(r))
	require.Len(t, r.Findings, 8)
	require.EqualValues(t, 1, r.Findings[1].ShiftedBy)
	require.EqualValues(t, -1, r.Findings[3].ShiftedBy)
	require.EqualValues(t, []int64{6, 5}, []int64{r.Findings[6].BelongsAt, r.Findings[7].BelongsAt})
	require.Equal(t, chains[4][5].EventID, *r.Findings[6].EventID)
	for _, p := range r.Partitions {
		require.EqualValues(t, 21, p.LastPosition, "the chain's own end")
	}
}
