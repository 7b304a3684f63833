//go:build linux

package reindex

import (
	"context"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/elastic"
)

// long is the whole of it, for a machine that does nothing else: only there is it told how far search falls behind.
var long = os.Getenv("REINDEX_LOAD") != ""

// amount is what is given to do: a test among others makes do with less.
func amount(full, short int) int {
	if long {
		return full
	}
	return short
}

const (
	patience = 5 * time.Minute
	// refresh is the index's; a search may be behind by so much more than without a reindex.
	refresh = time.Second
)

// TestNobodyNoticesAReindex: the mapping has changed, items are written and searched, and a worker and an indexer are killed in the middle. An indexer is
// killed before as well, without a reindex: its partitions wait until Kafka has given them to the other one, then and now. `make test-reindex` runs all of it.
func TestNobodyNoticesAReindex(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs servers")
	}
	seeded := amount(60_000, 20_000)
	p := start(t, "api", "indexer", "indexer", "audit", "worker", "worker")
	l := newLoad(p)
	require.Eventually(t, func() bool { return p.of("api")[0].ready() }, patience, 100*time.Millisecond)
	p.fill(l, seeded)
	require.Eventually(t, func() bool {
		var behind int
		require.NoError(t, p.pool.QueryRow(t.Context(), `SELECT count(*) FROM items i LEFT JOIN item_index_state s ON s.item_id = i.id
			WHERE coalesce(s.indexed_version, 0) < i.version`).Scan(&behind))
		return behind == 0
	}, patience, time.Second)
	old, _, err := elastic.BehindAlias(t.Context(), p.es, p.alias)
	require.NoError(t, err)
	require.NoError(t, elastic.EnsureIndex(t.Context(), p.es, p.alias, elastic.Params{})) // the operator of this release
	require.NoError(t, elastic.Refresh(t.Context(), p.es, p.alias))

	l.enter("before")
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { l.run(ctx) })
	defer work.Wait()
	defer stop()
	if long {
		rest(t, 10*time.Second)
		p.of("indexer")[1].kill()
		rest(t, 20*time.Second)
		p.run(p.of("indexer")[1])
		rest(t, 10*time.Second)
	}

	l.enter("reindex")
	status, answer, err := l.call(http.MethodPost, "/v1/jobs", map[string]any{"type": "reindex", "parameters": map[string]any{}})
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, status, answer)
	job := uuid.MustParse(answer["id"].(string))
	killed := false
	require.Eventually(t, func() bool {
		for _, worker := range p.of("worker") {
			if !killed && worker.says(`atlas_search_rebuild_phase{phase="backfill"} 1`) {
				worker.kill()
				p.of("indexer")[1].kill()
				killed = true
			}
		}
		var state string
		require.NoError(t, p.pool.QueryRow(t.Context(), "SELECT state FROM jobs WHERE id = $1", job).Scan(&state))
		require.NotEqual(t, "FAILED", state)
		return state == "SUCCEEDED"
	}, patience, 20*time.Millisecond)
	require.True(t, killed, "the worker was not killed in the middle")
	l.enter("after")
	rest(t, 5*time.Second)
	stop()
	work.Wait()

	var attempts int
	var result string
	require.NoError(t, p.pool.QueryRow(t.Context(), "SELECT attempt, result::text FROM jobs WHERE id = $1", job).Scan(&attempts, &result))
	for _, phase := range []string{"before", "reindex", "after"} {
		usual, worst := l.lag(phase, 99)
		t.Log(phase, "p99", usual, "worst", worst)
	}
	t.Log("writes", l.writes, "searches", l.searches, "attempts", attempts, result)
	require.Empty(t, l.problems)
	require.Equal(t, 2, attempts)
	if long {
		require.Less(t, l.missed*20, l.writes+l.searches, "the machine is too busy for the load: a twentieth was left out")
		_, before := l.lag("before", 99)
		_, during := l.lag("reindex", 99)
		require.LessOrEqual(t, during, before+refresh, "search fell behind")
		_, after := l.lag("after", 99)
		require.LessOrEqual(t, after, before+refresh, "search fell behind")
	}

	now, _, err := elastic.BehindAlias(t.Context(), p.es, p.alias)
	require.NoError(t, err)
	require.NotEqual(t, old.Name, now.Name)
	_, there, err := elastic.BehindAlias(t.Context(), p.es, old.Name)
	require.NoError(t, err, "the old index is gone")
	require.False(t, there)
	out, code := p.check()
	require.Zero(t, code, out)
	t.Log(out)
}

func rest(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-t.Context().Done():
	case <-timer.C:
	}
}
