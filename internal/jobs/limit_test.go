package jobs_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/jobs/jobstest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

// TestWhoeverHoldsAKindKeepsNoOtherKindBack: somebody counts a kind's jobs and is slow, or hangs.
func TestWhoeverHoldsAKindKeepsNoOtherKindBack(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), "SELECT pg_advisory_xact_lock(1785684595, hashtext('limited'))")
	require.NoError(t, err)
	limited, free := jobstest.Enqueue(t, seed, "limited", nil, 1), jobstest.Enqueue(t, seed, "free", nil, 1) // in this order
	done := func(context.Context, *jobs.Execution) (any, error) { return nil, nil }
	// Nothing but the lock makes it look again.
	kafkatest.Start(t, jobs.New(jobs.Config{PollInterval: 2 * jobstest.Patience}, jobs.Deps{Logger: kafkatest.Logger(t), Pool: pool, Tasks: []jobs.Task{
		jobs.Func(jobs.Kind{Name: "limited", Concurrency: 1}, done), jobs.Func(jobs.Kind{Name: "free"}, done),
	}}).Run)
	jobstest.Becomes(t, pool, free, "SUCCEEDED")
	require.Equal(t, "QUEUED", jobstest.Read(t, pool, limited).State)
	require.NoError(t, tx.Rollback(t.Context()))
	jobstest.Becomes(t, pool, limited, "SUCCEEDED")
	require.Equal(t, []string{"RUNNING", "SUCCEEDED"}, jobstest.States(t, pool, limited))
}
