package rebuild_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/elastic"
)

// stall holds the first creation of an index up: meanwhile is what happens before it reaches Elasticsearch, and then what happens before the answer comes.
type stall struct {
	elastictransport.Interface
	once            sync.Once
	meanwhile, then func()
}

func (s *stall) Perform(r *http.Request) (res *http.Response, err error) {
	if r.Method != http.MethodPut {
		return s.Interface.Perform(r)
	}
	done := false
	s.once.Do(func() {
		done = true
		s.meanwhile()
		res, err = s.Interface.Perform(r)
		s.then()
	})
	if done {
		return res, err
	}
	return s.Interface.Perform(r)
}

func (w *world) rows(t *testing.T) (rows int) {
	t.Helper()
	require.NoError(t, w.Pool.QueryRow(context.WithoutCancel(t.Context()), "SELECT count(*) FROM search_rebuilds").Scan(&rows))
	return rows
}

// TestAStalledWorkerLeavesNoIndex: it sleeps while it creates the index; its job is cancelled and its row is cleared away before it wakes up.
func TestAStalledWorkerLeavesNoIndex(t *testing.T) {
	t.Parallel()
	for name, wakes := range map[string]bool{"with its lease lost": false, "and begins again": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			es := &stall{Interface: w.es, meanwhile: func() {
				w.ends(t, "CANCELLED")
				require.Eventually(t, func() bool {
					require.NoError(t, w.keeper(t).Round(t.Context()))
					return w.rows(t) == 0
				}, patience, 50*time.Millisecond)
			}, then: func() {
				require.Len(t, w.indices(t), 2, "the index was made after all")
				if !wakes {
					cancel()
				}
			}}
			creations := 0
			_, err := w.run(ctx, t, es, func(_ context.Context, phase string) {
				if creations++; creations == 2 { // from the beginning
					require.Equal(t, "create", phase)
					require.Equal(t, []string{w.old.Name}, w.indices(t))
					cancel()
				}
			})
			require.ErrorIs(t, err, context.Canceled)
			require.Equal(t, wakes, creations == 2)
			require.Equal(t, []string{w.old.Name}, w.indices(t))
		})
	}
}

// orphan is an index that a worker died over after it had lost its row.
func (w *world) orphan(t *testing.T, alias string) string {
	t.Helper()
	plan, err := elastic.ReadBlueprint(t.Context(), w.es, w.alias)
	require.NoError(t, err)
	name := plan.IndexName(alias, time.Now().Add(-time.Hour))
	made, err := elastic.BuildIndex(t.Context(), w.es, name)
	require.NoError(t, err)
	require.True(t, made)
	t.Cleanup(func() { _, _ = w.es.Indices.Delete([]string{name}) })
	return name
}

// TestAnIndexThatNoRebuildOwnsGoes, and nothing else does.
func TestAnIndexThatNoRebuildOwnsGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	orphan := w.orphan(t, w.alias)
	other := w.orphan(t, w.alias+"-other") // is another Atlas's
	foreign, detached := w.alias+"-abc-20260101000000", w.alias+"-0123abcd-20260101000000"
	for name, alias := range map[string]string{foreign: elastic.BuildTarget(foreign), detached: elastic.BuildTarget(orphan) + "-not"} {
		put(t, w.es, http.MethodPut, "/"+name, map[string]any{"aliases": map[string]any{alias: map[string]any{}}})
		t.Cleanup(func() { _, _ = w.es.Indices.Delete([]string{name}) })
	}
	searched := w.index(t).Name // by an alias that was left to it
	put(t, w.es, http.MethodPost, "/_aliases", map[string]any{"actions": []any{map[string]any{"add": map[string]any{"index": searched, "alias": elastic.BuildTarget(searched)}}}})

	stay := []string{w.old.Name, other, foreign, detached}
	require.ElementsMatch(t, append(stay, orphan), w.indices(t))
	require.NoError(t, w.keeper(t).Round(t.Context()))
	require.ElementsMatch(t, stay, w.indices(t))

	// One that is recorded stays, whatever becomes of others.
	orphan = w.orphan(t, w.alias)
	w.Exec(t, "INSERT INTO search_rebuilds (alias, job_id, index_name, target) VALUES ($1, $2, $3, $4)", w.alias, w.job, orphan, elastic.BuildTarget(orphan))
	require.NoError(t, w.keeper(t).Round(t.Context()))
	require.ElementsMatch(t, append(stay, orphan), w.indices(t))
	w.Exec(t, "UPDATE search_rebuilds SET index_name = 'another', old_index = $1, state = 'swapped'", orphan)
	require.NoError(t, w.keeper(t).Round(t.Context()))
	require.ElementsMatch(t, append(stay, orphan), w.indices(t))
	w.Exec(t, "UPDATE search_rebuilds SET index_name = 'another', old_index = ''")
	require.NoError(t, w.keeper(t).Round(t.Context()))
	require.ElementsMatch(t, stay, w.indices(t))
}

// TestTheNextRebuildRemovesWhatADeadOneLeft where no keeper did.
func TestTheNextRebuildRemovesWhatADeadOneLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	orphan := w.orphan(t, w.alias)
	w.rebuild(t, nil)
	require.NotContains(t, w.indices(t), orphan)
	w.swapped(t)
}
