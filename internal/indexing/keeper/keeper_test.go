package keeper_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/elastic/go-elasticsearch/v8"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/consistency"
	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/indexing/keeper"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/search"
)

const (
	patience = time.Minute
	many     = 3000
)

type world struct {
	*indexingtest.Seed
	es    *elasticsearch.Client
	alias string
	c     uuid.UUID
}

// newWorld has an index that a keeper has filled with many items.
func newWorld(t *testing.T) world {
	t.Helper()
	pool, es := pgtest.New(t), indexingtest.Client(t)
	w := world{Seed: indexingtest.NewSeed(t, pool), es: es, alias: indexingtest.NewAlias(t, es)}
	w.c = w.Collection(t)
	w.Exec(t, `INSERT INTO items (id, collection_id, title, created_by, updated_by)
		SELECT ('019b0000-' || lpad(to_hex(n), 4, '0') || '-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, $1, 'item ' || n, $2, $2
		FROM generate_series(1, $3) AS n`, w.c, w.User, many)
	require.NoError(t, w.keeper(t, es).Round(t.Context()))
	w.complete(t)
	return w
}

func (w world) keeper(t *testing.T, es interface {
	Perform(*http.Request) (*http.Response, error)
},
) *keeper.Keeper {
	return keeper.New(keeper.Config{Alias: w.alias, Interval: 20 * time.Millisecond, Sampling: time.Nanosecond},
		keeper.Deps{Logger: kafkatest.Logger(t), Pool: w.Pool, Elasticsearch: es})
}

func (w world) count(t *testing.T) int {
	t.Helper()
	res, err := w.es.Count(w.es.Count.WithIndex(w.alias))
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	var answer struct {
		Count int `json:"count"`
	}
	require.NoError(t, json.NewDecoder(res.Body).Decode(&answer))
	return answer.Count
}

// complete asks the consistency check, documents' contents included.
func (w world) complete(t *testing.T) {
	t.Helper()
	indexingtest.Refresh(t, w.es, w.alias)
	report, err := consistency.New(w.Pool, w.es, w.alias).Index(t.Context(), consistency.Options{
		Deep: true, Settle: 50 * time.Millisecond, Patience: 10 * time.Second,
	})
	require.NoError(t, err)
	require.True(t, report.Clean(), "%+v", report)
}

// empty deletes what is in the index, by hand.
func (w world) empty(t *testing.T) {
	t.Helper()
	res, err := w.es.DeleteByQuery([]string{w.alias}, strings.NewReader(`{"query":{"match_all":{}}}`),
		w.es.DeleteByQuery.WithRefresh(true), w.es.DeleteByQuery.WithConflicts("proceed"))
	require.NoError(t, err)
	require.False(t, res.IsError(), res.String())
	_ = res.Body.Close()
	require.Zero(t, w.count(t))
}

// TestALostIndexComesBackWithoutBeingAsked, while items change and another keeper looks on.
func TestALostIndexComesBackWithoutBeingAsked(t *testing.T) {
	t.Parallel()
	losses := map[string]func(t *testing.T, w world){
		"the index is deleted":   func(t *testing.T, w world) { indexingtest.DropIndices(t, w.es, w.alias) },
		"its documents are gone": func(t *testing.T, w world) { w.empty(t) },
		"it is made again, empty": func(t *testing.T, w world) {
			indexingtest.DropIndices(t, w.es, w.alias)
			require.NoError(t, elastic.EnsureIndex(t.Context(), w.es, w.alias, elastic.Params{}))
		},
	}
	for name, lose := range losses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			lose(t, w)
			ctx, stop := context.WithCancel(t.Context())
			var work sync.WaitGroup
			for range 2 {
				k := w.keeper(t, w.es)
				work.Go(func() { _ = k.Run(ctx) })
			}
			indexer := indexing.New(w.Pool, w.es, w.alias)
			require.Eventually(t, func() bool { // as the consumer would
				id := w.Item(t, w.c, "meanwhile", "")
				w.Update(t, id, "changed")
				require.Eventually(t, func() bool {
					_, err := indexer.Sync(ctx, []indexing.Target{{ItemID: id}})
					return err == nil
				}, patience, 20*time.Millisecond)
				return w.count(t) >= many && w.filled(t)
			}, patience, 50*time.Millisecond)
			stop()
			work.Wait()
			w.complete(t)
		})
	}
}

func (w world) filled(t *testing.T) bool {
	t.Helper()
	var filled bool
	require.NoError(t, w.Pool.QueryRow(t.Context(), "SELECT count(*) = 1 AND bool_and(filled_at IS NOT NULL AND NOT incomplete) FROM search_indices").Scan(&filled))
	return filled
}

// breaker lets so many bulk requests through.
type breaker struct {
	es   *elasticsearch.Client
	left int
}

func (b *breaker) Perform(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/_bulk") {
		if b.left--; b.left < 0 {
			return nil, io.ErrUnexpectedEOF
		}
	}
	return b.es.Perform(r)
}

// TestAFillGoesOnWhereItEnded, and until it is done search does not rely on the index.
func TestAFillGoesOnWhereItEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gate := func() bool { return search.NewGate(w.Pool, w.alias).Open(t.Context()) }
	require.True(t, gate())
	indexingtest.DropIndices(t, w.es, w.alias)
	require.Error(t, w.keeper(t, &breaker{es: w.es, left: 5}).Round(t.Context()))
	require.False(t, gate())
	var items int64
	require.NoError(t, w.Pool.QueryRow(t.Context(), "SELECT filled_items FROM search_indices WHERE filled_at IS NULL").Scan(&items))
	require.Positive(t, items)
	require.Less(t, items, int64(many))

	counting := &breaker{es: w.es, left: 1000}
	require.NoError(t, w.keeper(t, counting).Round(t.Context()))
	require.Less(t, 1000-counting.left, many/500, "the rest only")
	require.True(t, gate())
	w.complete(t)
}

// TestAGoodIndexIsLeftAlone, one that a former version of Atlas filled as well: search relies on it all the while.
func TestAGoodIndexIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before, _, err := elastic.BehindAlias(t.Context(), w.es, w.alias)
	require.NoError(t, err)
	w.Exec(t, "DELETE FROM search_indices")
	require.Error(t, w.keeper(t, &breaker{es: w.es}).Round(t.Context()), "the fill is kept from beginning")
	require.True(t, search.NewGate(w.Pool, w.alias).Open(t.Context()))
	for range 3 {
		require.NoError(t, w.keeper(t, w.es).Round(t.Context()))
	}
	after, _, err := elastic.BehindAlias(t.Context(), w.es, w.alias)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// TestNothingIsMadeWhereNothingWasSetUp: which settings an index should have is somebody else's to say.
func TestNothingIsMadeWhereNothingWasSetUp(t *testing.T) {
	t.Parallel()
	pool, es := pgtest.New(t), indexingtest.Client(t)
	k := keeper.New(keeper.Config{Alias: "test-" + uuid.NewString()}, keeper.Deps{Logger: kafkatest.Logger(t), Pool: pool, Elasticsearch: es})
	require.ErrorIs(t, k.Round(t.Context()), elastic.ErrNotSetUp)
}
