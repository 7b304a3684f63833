package keeper_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing"
)

// named are the indices of the alias's names, behind it or not.
func (w world) named(t *testing.T) []string {
	t.Helper()
	res, err := w.es.Indices.Get([]string{elastic.IndexPattern(w.alias)})
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	var found map[string]any
	require.NoError(t, json.NewDecoder(res.Body).Decode(&found))
	var names []string
	for name := range found {
		names = append(names, name)
	}
	return names
}

// TestOperatorAndKeeperLeadAnAliasBack at once, again and again, while items are deleted: one index is left, with all that there is, and the foreign ones.
func TestOperatorAndKeeperLeadAnAliasBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	k := w.keeper(t, w.es)
	work.Go(func() { _ = k.Run(ctx) })
	work.Go(func() { // who loses a race looks again
		for ctx.Err() == nil {
			_ = elastic.EnsureIndex(ctx, w.es, w.alias, elastic.Params{})
		}
	})
	work.Go(func() {
		indexer := indexing.New(w.Pool, w.es, w.alias)
		for ctx.Err() == nil {
			id := w.Item(t, w.c, "short-lived", "")
			w.Delete(t, id)
			_, _ = indexer.Sync(ctx, []indexing.Target{{ItemID: id}}) // refused while the alias leads nowhere
		}
	})
	defer work.Wait()
	defer stop()
	for round := range 5 {
		theirs := fmt.Sprintf("theirs-%s-%d", w.alias, round)
		res, err := w.es.Indices.Create(theirs)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, res.StatusCode, res.String())
		t.Cleanup(func() { _, _ = w.es.Indices.Delete([]string{theirs}) })
		var before elastic.IndexID
		require.Eventually(t, func() bool {
			index, there, err := elastic.OwnBehindAlias(t.Context(), w.es, w.alias)
			if err != nil || !there {
				return false
			}
			before = index
			res, err := w.es.Indices.UpdateAliases(strings.NewReader(`{"actions":[{"add":{"index":"` + theirs + `","alias":"` + w.alias + `"}},` +
				`{"remove":{"index":"` + index.Name + `","alias":"` + w.alias + `"}}]}`))
			require.NoError(t, err)
			_ = res.Body.Close()
			return res.StatusCode == http.StatusOK
		}, patience, 10*time.Millisecond)
		var after elastic.IndexID
		require.Eventually(t, func() bool {
			index, there, err := elastic.OwnBehindAlias(t.Context(), w.es, w.alias)
			after = index
			return err == nil && there && index.UUID != before.UUID
		}, patience, 10*time.Millisecond)
		require.Eventually(t, func() bool {
			names := w.named(t)
			return len(names) == 1 && names[0] == after.Name
		}, patience, 10*time.Millisecond, "round %d", round)
	}
	require.Eventually(t, func() bool { return w.count(t) >= many && w.filled(t) }, patience, 100*time.Millisecond)
	stop()
	work.Wait()
	require.Len(t, w.named(t), 1)
	w.complete(t)
}

// TestWhatWasWrittenElsewhereComesBack after somebody made a foreign index the one that is written, beside Atlas's own: however little it is.
func TestWhatWasWrittenElsewhereComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own, _, err := elastic.OwnBehindAlias(t.Context(), w.es, w.alias)
	require.NoError(t, err)
	theirs := "theirs-" + w.alias
	res, err := w.es.Indices.Create(theirs)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, res.String())
	t.Cleanup(func() { _, _ = w.es.Indices.Delete([]string{theirs}) })
	res, err = w.es.Indices.UpdateAliases(strings.NewReader(`{"actions":[{"add":{"index":"` + own.Name + `","alias":"` + w.alias + `","is_write_index":false}},` +
		`{"add":{"index":"` + theirs + `","alias":"` + w.alias + `","is_write_index":true}}]}`))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, res.String())
	_, err = indexing.New(w.Pool, w.es, w.alias).Sync(t.Context(), []indexing.Target{{ItemID: w.Item(t, w.c, "written elsewhere", "")}})
	require.NoError(t, err)

	require.NoError(t, elastic.EnsureIndex(t.Context(), w.es, w.alias, elastic.Params{}))
	require.NoError(t, w.keeper(t, w.es).Round(t.Context()))
	require.True(t, w.filled(t))
	w.complete(t)
}
