package tasks

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/auditchain"
	"github.com/atlas-platform/atlas/internal/consistency"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/jobs/jobstest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

// checked runs a job to its end.
func checked(t *testing.T, seed *indexingtest.Seed, pool *pgxpool.Pool, kind, parameters string) (row jobstest.Row, code string) {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	seed.Exec(t, "INSERT INTO jobs (id, type, parameters, max_attempts) VALUES ($1, $2, $3, 2)", id, kind, parameters)
	require.Eventually(t, func() bool { return jobstest.Read(t, pool, id).Finished != nil }, jobstest.Patience, 5*time.Millisecond)
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT coalesce(error_code, '') FROM jobs WHERE id = $1", id).Scan(&code))
	return jobstest.Read(t, pool, id), code
}

func startEngine(t *testing.T, pool *pgxpool.Pool, task jobs.Task) {
	t.Helper()
	kafkatest.Start(t, jobs.New(jobstest.Fast(), jobs.Deps{Logger: kafkatest.Logger(t), Pool: pool, Tasks: []jobs.Task{task}}).Run)
}

// trail writes a chain of n rows and its head, as the audit consumer does, and returns the events' ids.
func trail(t *testing.T, pool *pgxpool.Pool, partition int32, n int) []uuid.UUID {
	t.Helper()
	ids, previous := make([]uuid.UUID, n), auditchain.Genesis()
	for i := range n {
		row := auditchain.Row{
			EventID: uuid.New(), EventType: "ItemCreated", Version: 1, OccurredAt: time.UnixMicro(int64(i)).UTC(), EntityType: "Item", EntityID: uuid.New(), Data: `{"n": 1}`,
			Partition: partition, Offset: int64(i), Position: int64(i + 1), RecordedAt: time.UnixMicro(int64(2 * i)).UTC(),
		}
		hash := row.Hash(previous)
		_, err := pool.Exec(t.Context(), `INSERT INTO audit_events (event_id, event_type, version, occurred_at, entity_type, entity_id, data, kafka_partition,
			kafka_offset, chain_position, recorded_at, previous_hash, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`, row.EventID, row.EventType,
			row.Version, row.OccurredAt, row.EntityType, row.EntityID, row.Data, row.Partition, row.Offset, row.Position, row.RecordedAt, previous, hash)
		require.NoError(t, err)
		ids[i], previous = row.EventID, hash
	}
	require.NoError(t, db.New(pool).MoveAuditHead(t.Context(), db.MoveAuditHeadParams{
		KafkaPartition: partition, ChainPosition: int64(n), Hash: previous, KafkaOffset: int64(n - 1),
	}))
	return ids
}

func TestAuditVerifyNamesTheRows(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	startEngine(t, pool, newAuditVerify(pool))
	row, _ := checked(t, seed, pool, TypeAuditVerify, `{}`)
	require.JSONEq(t, `{"rows":0,"partitions":[],"findings":[],"found":0}`, string(row.Result), "an empty trail")

	first, second := trail(t, pool, 0, 300), trail(t, pool, 1, 500)
	row, _ = checked(t, seed, pool, TypeAuditVerify, `{}`)
	require.Equal(t, "SUCCEEDED", row.State)
	var report auditchain.Report
	require.NoError(t, json.Unmarshal(row.Result, &report))
	require.EqualValues(t, 800, report.Rows)
	require.EqualValues(t, 800, row.Done)
	require.Len(t, report.Heads(), 2, "as --heads takes them")

	tamper := func(sql string, args ...any) {
		t.Helper()
		require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), "SET LOCAL session_replication_role = replica")
			require.NoError(t, err)
			_, err = tx.Exec(t.Context(), sql, args...)
			return err
		}))
	}
	tamper("UPDATE audit_events SET data = '{}' WHERE event_id = $1", first[41])
	row, code := checked(t, seed, pool, TypeAuditVerify, `{}`)
	require.Equal(t, "FAILED", row.State)
	require.Equal(t, 1, row.Attempt, "another attempt would find the same")
	require.Equal(t, "audit_trail_broken", code)
	require.Contains(t, *row.Error, "1 findings; partition 0, row 42 (event "+first[41].String()+"): ")
	require.NoError(t, json.Unmarshal(row.Result, &report))
	require.Equal(t, first[41], *report.Findings[0].EventID)
	require.EqualValues(t, 42, report.Findings[0].First)
	require.Len(t, report.Partitions, 2, "the other one was looked at too")
	row, _ = checked(t, seed, pool, TypeAuditVerify, `{"partition":1}`)
	require.Equal(t, "SUCCEEDED", row.State)

	tamper("UPDATE audit_events SET data = '{}' WHERE kafka_partition = 1 AND chain_position % 2 = 0")
	row, _ = checked(t, seed, pool, TypeAuditVerify, `{"partition":1}`)
	require.Equal(t, "FAILED", row.State)
	require.NoError(t, json.Unmarshal(row.Result, &report))
	require.Len(t, report.Findings, maxFindings)
	require.Greater(t, report.Found, int64(maxFindings))
	require.Contains(t, *row.Error, second[1].String())
	require.Contains(t, *row.Error, "more")
	require.Less(t, len(*row.Error), 4000)
}

// retried retries a job and waits for its end.
func retried(t *testing.T, pool *pgxpool.Pool, id uuid.UUID) jobstest.Row {
	t.Helper()
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := jobs.Retry(t.Context(), db.New(tx), id, nil)
		return err
	}))
	require.Eventually(t, func() bool { return jobstest.Read(t, pool, id).Finished != nil }, jobstest.Patience, 5*time.Millisecond)
	return jobstest.Read(t, pool, id)
}

// TestARetriedAuditVerifyLooksAgain, whatever the attempts before it found; another attempt without a retry goes on.
func TestARetriedAuditVerifyLooksAgain(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	startEngine(t, pool, newAuditVerify(pool))
	rows := trail(t, pool, 0, 30)
	write := func(data string) {
		t.Helper()
		require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), "SET LOCAL session_replication_role = replica")
			require.NoError(t, err)
			_, err = tx.Exec(t.Context(), "UPDATE audit_events SET data = $2 WHERE event_id = $1", rows[11], data)
			return err
		}))
	}
	write(`{}`)
	id := jobstest.Enqueue(t, seed, TypeAuditVerify, nil, 2)
	jobstest.Becomes(t, pool, id, "FAILED")
	write(`{"n": 1}`)
	require.Equal(t, "SUCCEEDED", retried(t, pool, id).State, "the row is as it was")

	write(`{}`)
	seed.Exec(t, "UPDATE jobs SET state = 'QUEUED', attempt = 0, finished_at = NULL, result = NULL WHERE id = $1", id) // as a worker that drains hands it back
	jobstest.Becomes(t, pool, id, "SUCCEEDED")
	seed.Exec(t, "UPDATE jobs SET state = 'CANCELLED' WHERE id = $1", id) // after the partition
	require.Equal(t, "FAILED", retried(t, pool, id).State)
}

// TestARetriedReindexSendsAllAgain after somebody has mended what made Elasticsearch refuse them.
func TestARetriedReindexSendsAllAgain(t *testing.T) {
	t.Parallel()
	pool, es := pgtest.New(t), indexingtest.Client(t)
	alias, seed := indexingtest.NewAlias(t, es), indexingtest.NewSeed(t, pool)
	startEngine(t, pool, newReindex(pool, indexing.New(pool, es, alias), nil))
	collection := seed.Collection(t)
	items := []uuid.UUID{seed.Item(t, collection, "1", ""), seed.Item(t, collection, "two", ""), seed.Item(t, collection, "three", "")}
	indexingtest.Replace(t, es, alias, map[string]any{"mappings": map[string]any{"properties": map[string]any{"title": map[string]any{"type": "integer"}}}})
	id := jobstest.Enqueue(t, seed, TypeReindex, &collection, 1)
	row := jobstest.Becomes(t, pool, id, "FAILED")
	require.Contains(t, *row.Error, "Elasticsearch refused 2 of 3 items")
	require.Equal(t, []int64{3, 3}, []int64{row.Done, row.Total})
	indexingtest.Replace(t, es, alias, map[string]any{})
	row = retried(t, pool, id)
	require.Equal(t, "SUCCEEDED", row.State)
	require.JSONEq(t, `{"items":3}`, string(row.Result))
	for _, item := range items {
		require.True(t, indexingtest.Get(t, es, alias, item).Found)
	}
}

func TestConsistencyCheckNamesTheDifferences(t *testing.T) {
	t.Parallel()
	pool, es := pgtest.New(t), indexingtest.Client(t)
	alias := indexingtest.NewAlias(t, es)
	seed := indexingtest.NewSeed(t, pool)
	task := newConsistencyCheck(pool, es, alias)
	task.options = consistency.Options{Settle: 50 * time.Millisecond, Patience: 20 * time.Second}
	startEngine(t, pool, task)
	collection := seed.Collection(t)
	var ids []string
	var targets []indexing.Target
	for range 20 {
		item := seed.Item(t, collection, "an item", "text")
		ids, targets = append(ids, item.String()), append(targets, indexing.Target{ItemID: item})
	}
	row, code := checked(t, seed, pool, TypeConsistencyCheck, `{"only":"index"}`)
	require.Equal(t, "FAILED", row.State)
	require.Equal(t, "differences", code)
	require.Contains(t, *row.Error, "20 differences; index_missing: 20 (the item is not in the index), "+ids[0])
	require.Equal(t, 3, namedIn(*row.Error, ids))
	var report consistency.Report
	require.NoError(t, json.Unmarshal(row.Result, &report))
	require.EqualValues(t, 20, report.Remaining())
	require.Len(t, report.Differences[0].Examples, 10)

	row, _ = checked(t, seed, pool, TypeConsistencyCheck, `{"only":"index","repair":true}`)
	require.Equal(t, "SUCCEEDED", row.State, row.Error)
	require.NoError(t, json.Unmarshal(row.Result, &report))
	require.EqualValues(t, 20, report.Differences[0].Mended)

	_, err := indexing.New(pool, es, alias).Sync(t.Context(), targets)
	require.NoError(t, err)
	seed.Exec(t, "UPDATE items SET content = 'other' WHERE id = $1", ids[4])
	row, _ = checked(t, seed, pool, TypeConsistencyCheck, `{"only":"index"}`)
	require.Equal(t, "SUCCEEDED", row.State, "the versions agree")
	row, _ = checked(t, seed, pool, TypeConsistencyCheck, `{"only":"index","deep":true}`)
	require.Equal(t, "FAILED", row.State)
	require.Contains(t, *row.Error, "index_different: 1")
	require.Contains(t, *row.Error, ids[4])
}

func namedIn(text string, ids []string) (n int) {
	for _, id := range ids {
		n += strings.Count(text, id)
	}
	return n
}

func TestConsistencyCheckWithoutAnIndex(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	startEngine(t, pool, newConsistencyCheck(pool, nil, ""))
	row, code := checked(t, seed, pool, TypeConsistencyCheck, `{"only":"index"}`)
	require.Equal(t, "FAILED", row.State)
	require.Equal(t, "no_index", code)
}

// TestATotalThatIsNotKnown is not made up from what is done.
func TestATotalThatIsNotKnown(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	startEngine(t, pool, jobs.Func(jobs.Kind{Name: "test"}, func(ctx context.Context, x *jobs.Execution) (any, error) {
		progress, _ := tell(ctx, x)
		progress.saved = time.Time{}
		if x.Job.Parameters != nil && string(x.Job.Parameters) == `{"known": true}` {
			progress.save("counting", 7, 5, struct{}{})
		} else {
			progress.save("counting", 7, 0, struct{}{})
		}
		return nil, progress.stop(nil)
	}))
	row, _ := checked(t, seed, pool, "test", `{}`)
	require.EqualValues(t, 7, row.Done)
	require.Zero(t, row.Total)
	row, _ = checked(t, seed, pool, "test", `{"known": true}`)
	require.EqualValues(t, 7, row.Total, "it was more than was thought")
}
