package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/jobs/jobstest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/tasks"
	"github.com/atlas-platform/atlas/services/worker"
)

func TestReindexSendsACollectionAgain(t *testing.T) {
	t.Parallel()
	pool, es := pgtest.New(t), indexingtest.Client(t)
	alias, seed := indexingtest.NewAlias(t, es), indexingtest.NewSeed(t, pool)
	c, other := seed.Collection(t), seed.Collection(t)
	one, gone := seed.Item(t, c, "one", ""), seed.Item(t, c, "gone", "")
	elsewhere := seed.Item(t, other, "elsewhere", "")
	_, err := indexing.New(pool, es, alias).Sync(context.Background(), []indexing.Target{{ItemID: gone}})
	require.NoError(t, err)
	seed.Delete(t, gone)
	id := jobstest.Enqueue(t, seed, tasks.TypeReindex, &c, 1)
	kafkatest.Start(t, worker.New(worker.Config{Elasticsearch: config.Elasticsearch{Index: alias}, Engine: jobstest.Fast()}, worker.Deps{
		Logger: kafkatest.Logger(t), Pool: pool, Elasticsearch: es,
	}).Run)
	job := jobstest.Becomes(t, pool, id, "SUCCEEDED")
	require.JSONEq(t, `{"items":2}`, string(job.Result))
	require.EqualValues(t, 2, job.Done)
	require.EqualValues(t, 2, job.Total)
	require.True(t, indexingtest.Get(t, es, alias, one).Found)
	require.False(t, indexingtest.Get(t, es, alias, gone).Found)
	require.False(t, indexingtest.Get(t, es, alias, elsewhere).Found)
}

func TestReindexGoesOnFromItsCheckpoint(t *testing.T) {
	t.Parallel()
	pool, es := pgtest.New(t), indexingtest.Client(t)
	alias, seed := indexingtest.NewAlias(t, es), indexingtest.NewSeed(t, pool)
	c := seed.Collection(t)
	before, after := seed.Item(t, c, "before", ""), seed.Item(t, c, "after", "")
	id := jobstest.Enqueue(t, seed, tasks.TypeReindex, &c, 1)
	seed.Exec(t, "UPDATE jobs SET checkpoint = jsonb_build_object('after', $2::text, 'done', 1, 'total', 2) WHERE id = $1", id, before.String())
	kafkatest.Start(t, worker.New(worker.Config{Elasticsearch: config.Elasticsearch{Index: alias}, Engine: jobstest.Fast()}, worker.Deps{
		Logger: kafkatest.Logger(t), Pool: pool, Elasticsearch: es,
	}).Run)
	require.JSONEq(t, `{"items":2}`, string(jobstest.Becomes(t, pool, id, "SUCCEEDED").Result))
	require.False(t, indexingtest.Get(t, es, alias, before).Found)
	require.True(t, indexingtest.Get(t, es, alias, after).Found)
}

func TestReindexOfAMissingCollectionFailsAtOnce(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	c := seed.Collection(t)
	seed.Exec(t, "UPDATE collections SET deleted_at = now() WHERE id = $1", c)
	deleted := jobstest.Enqueue(t, seed, tasks.TypeReindex, &c, 5)
	kafkatest.Start(t, worker.New(worker.Config{Engine: jobstest.Fast()}, worker.Deps{Logger: kafkatest.Logger(t), Pool: pool}).Run)
	job := jobstest.Becomes(t, pool, deleted, "FAILED")
	require.Equal(t, 1, job.Attempt)
	require.Equal(t, "the collection does not exist", *job.Error)
}

func TestReindexWithoutElasticsearchSucceeds(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	c := seed.Collection(t)
	seed.Item(t, c, "one", "")
	id, whole := jobstest.Enqueue(t, seed, tasks.TypeReindex, &c, 1), jobstest.Enqueue(t, seed, tasks.TypeReindex, nil, 1)
	kafkatest.Start(t, worker.New(worker.Config{Engine: jobstest.Fast()}, worker.Deps{Logger: kafkatest.Logger(t), Pool: pool}).Run)
	require.JSONEq(t, `{"items":1}`, string(jobstest.Becomes(t, pool, id, "SUCCEEDED").Result))
	require.JSONEq(t, `{"items":0}`, string(jobstest.Becomes(t, pool, whole, "SUCCEEDED").Result))
}

func TestReindexWithoutACollectionMakesANewIndex(t *testing.T) {
	t.Parallel()
	pool, es := pgtest.New(t), indexingtest.Client(t)
	alias, seed := indexingtest.NewAlias(t, es), indexingtest.NewSeed(t, pool)
	item := seed.Item(t, seed.Collection(t), "one", "")
	before, _, err := elastic.BehindAlias(t.Context(), es, alias)
	require.NoError(t, err)
	first, second := jobstest.Enqueue(t, seed, tasks.TypeReindex, nil, 1), jobstest.Enqueue(t, seed, tasks.TypeReindex, nil, 1)
	kafkatest.Start(t, worker.New(worker.Config{Elasticsearch: config.Elasticsearch{Index: alias}, Engine: jobstest.Fast()}, worker.Deps{
		Logger: kafkatest.Logger(t), Pool: pool, Elasticsearch: es,
	}).Run)
	waited := 0
	for _, id := range []uuid.UUID{first, second} {
		require.Eventually(t, func() bool { return jobstest.Read(t, pool, id).Finished != nil }, jobstest.Patience, 20*time.Millisecond)
		job := jobstest.Read(t, pool, id)
		require.Equal(t, "SUCCEEDED", job.State, "one after the other: %s", job.Result)
		require.Equal(t, 1, job.Attempt, "to wait costs no attempt")
		var busy int
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM jobs, jsonb_array_elements(history) AS h
			WHERE id = $1 AND h->>'error_code' = 'busy' AND h->>'error' LIKE 'another job is rebuilding the search index: job %'`, id).Scan(&busy))
		if busy > 0 {
			waited++
		}
	}
	require.Positive(t, waited)
	after, _, err := elastic.BehindAlias(t.Context(), es, alias)
	require.NoError(t, err)
	require.NotEqual(t, before, after)
	require.True(t, indexingtest.Get(t, es, alias, item).Found)
}
