package search_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/elastic/go-elasticsearch/v8"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/search"
	"github.com/atlas-platform/atlas/internal/telemetry"
)

// tap passes requests on, remembers them, and runs a hook before each.
type tap struct {
	elastictransport.Interface
	before func(method, path string)

	mu     sync.Mutex
	paths  []string
	header http.Header
}

func (p *tap) Perform(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	p.paths, p.header = append(p.paths, r.Method+" "+r.URL.Path), r.Header.Clone()
	p.mu.Unlock()
	if p.before != nil {
		p.before(r.Method, r.URL.Path)
	}
	return p.Interface.Perform(r)
}

func (p *tap) count(suffix string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, path := range p.paths {
		if strings.HasSuffix(path, suffix) {
			n++
		}
	}
	return n
}

func request(t *testing.T, es *elasticsearch.Client, method, path string, body any) {
	t.Helper()
	content, err := json.Marshal(body)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), method, path, bytes.NewReader(content))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	res, err := es.Perform(req)
	require.NoError(t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Less(t, res.StatusCode, 300, string(raw))
}

func setRefresh(t *testing.T, es *elasticsearch.Client, alias, interval string) {
	t.Helper()
	request(t, es, http.MethodPut, "/"+alias+"/_settings", map[string]any{"index.refresh_interval": interval})
}

// pitWorld has a searcher whose requests can be looked at, over n items that all match "same".
func pitWorld(t *testing.T, n int) (w world, taps *tap, all []uuid.UUID, q search.Query) {
	t.Helper()
	es := indexingtest.Client(t)
	alias := indexingtest.NewAlias(t, es)
	w = worldOn(t, es, alias)
	taps = &tap{Interface: es}
	w.searcher = search.NewElasticsearch(taps, alias)
	c := w.Collection(t)
	for range n {
		all = append(all, w.Item(t, c, "same", "same"))
	}
	w.publish(t, all...)
	return w, taps, all, search.Query{Match: parse(t, "same"), CollectionIDs: []uuid.UUID{c}, Limit: 3}
}

// next returns the items of a page and makes q ask for the one after it.
func next(t *testing.T, w world, q *search.Query) []uuid.UUID {
	t.Helper()
	page, err := w.searcher.Search(t.Context(), *q)
	require.NoError(t, err)
	q.Cursor = page.NextCursor
	return ids(page)
}

func pitOf(t *testing.T, cursor string) string {
	t.Helper()
	pit, err := search.PITOf(cursor)
	require.NoError(t, err)
	return pit
}

func TestPagesAreOfOnePointInTime(t *testing.T) {
	t.Parallel()
	w, taps, all, q := pitWorld(t, 8)
	seen := next(t, w, &q)
	// What has been on a page moves to the end, what has not moves to the front, and something new is nowhere.
	w.Exec(t, "UPDATE items SET title = 'other', version = version + 1 WHERE id = ANY ($1)", seen)
	w.Exec(t, "UPDATE items SET title = 'same same same', version = version + 1 WHERE id = ANY ($1)", all[:2])
	newest := w.Item(t, q.CollectionIDs[0], "same", "same")
	w.publish(t, append(slices.Clone(all), newest)...)
	for q.Cursor != "" {
		seen = append(seen, next(t, w, &q)...)
	}
	slices.Reverse(seen)
	require.Equal(t, all, seen)
	require.Equal(t, 2, taps.count("/_pit"), "opened and closed once: %s", taps.paths)
	require.Equal(t, "DELETE /_pit", taps.paths[len(taps.paths)-1])
}

func TestOnePageNeedsNoPointInTime(t *testing.T) {
	t.Parallel()
	w, taps, _, q := pitWorld(t, 3)
	require.Len(t, next(t, w, &q), 3)
	require.Empty(t, q.Cursor)
	require.Len(t, taps.paths, 1)
}

func TestALostPointInTimeIsNoError(t *testing.T) {
	t.Parallel()
	w, _, all, q := pitWorld(t, 8)
	seen := next(t, w, &q)
	request(t, indexingtest.Client(t), http.MethodDelete, "/_pit", map[string]any{"id": pitOf(t, q.Cursor)})
	seen = append(seen, next(t, w, &q)...)
	require.Empty(t, pitOf(t, q.Cursor), "goes on without one")
	seen = append(seen, next(t, w, &q)...)
	require.Empty(t, q.Cursor)
	slices.Reverse(seen)
	require.Equal(t, all, seen)
}

func TestAPointInTimeGetsOld(t *testing.T) {
	t.Parallel()
	w, taps, all, q := pitWorld(t, 8)
	now := time.Now().Truncate(time.Second)
	search.SetClock(w.searcher.(*search.Elasticsearch), func() time.Time { return now })
	seen := next(t, w, &q)
	now = now.Add(search.MaxMoment)
	seen = append(seen, next(t, w, &q)...)
	require.NotEmpty(t, pitOf(t, q.Cursor))
	now = now.Add(time.Second)
	seen = append(seen, next(t, w, &q)...)
	require.Empty(t, q.Cursor)
	slices.Reverse(seen)
	require.Equal(t, all, seen)
	require.Equal(t, taps.paths[0], taps.paths[len(taps.paths)-1], "in the index as it is")
}

// TestTheFirstPageIsOfThePointInTime changes the index between the first page's search and the opening of the point in time.
func TestTheFirstPageIsOfThePointInTime(t *testing.T) {
	t.Parallel()
	for _, change := range []string{
		"UPDATE items SET updated_at = now() + interval '1 hour', version = version + 1 WHERE id = $1", // the last one is the first
		"UPDATE items SET deleted_at = now(), version = version + 1 WHERE id <> $1",                    // one page is left
	} {
		w, taps, all, q := pitWorld(t, 5)
		q.Sort = search.LastUpdated
		var once sync.Once
		taps.before = func(method, path string) {
			if method == http.MethodPost && strings.HasSuffix(path, "/_pit") {
				once.Do(func() {
					w.Exec(t, change, all[0])
					w.publish(t, all...)
				})
			}
		}
		seen := next(t, w, &q)
		require.Equal(t, all[0], seen[0], change)
		for q.Cursor != "" {
			seen = append(seen, next(t, w, &q)...)
		}
		var left int
		require.NoError(t, w.Pool.QueryRow(context.Background(), "SELECT count(*) FROM items WHERE deleted_at IS NULL").Scan(&left))
		require.ElementsMatch(t, all[:left], seen)
		require.Equal(t, 2, taps.count("/_pit"), "opened and closed once: %s", taps.paths)
	}
}

func TestPointsInTimeAreBounded(t *testing.T) {
	t.Parallel()
	w, taps, all, q := pitWorld(t, 4)
	search.UsePITs(w.searcher.(*search.Elasticsearch))
	require.Len(t, next(t, w, &q), 3)
	require.Empty(t, pitOf(t, q.Cursor))
	require.Equal(t, []uuid.UUID{all[0]}, next(t, w, &q))
	require.Zero(t, taps.count("/_pit"))
}

// TestCursorsAreShort measures with as many shards as an installation may have.
func TestCursorsAreShort(t *testing.T) {
	t.Parallel()
	es := indexingtest.Client(t)
	for _, tt := range []struct {
		shards int
		pit    bool
	}{{1, true}, {5, true}, {25, false}} {
		alias := "test-" + uuid.NewString()
		require.NoError(t, elastic.EnsureIndex(t.Context(), es, alias, elastic.Params{Shards: tt.shards}))
		indexingtest.DropWith(t, es, alias)
		w := worldOn(t, es, alias)
		c := w.Collection(t)
		a, b := w.Item(t, c, "a", ""), w.Item(t, c, "b", "")
		w.publish(t, a, b)
		q := search.Query{CollectionIDs: []uuid.UUID{c}, Limit: 1}
		require.Equal(t, []uuid.UUID{b}, next(t, w, &q))
		t.Logf("%d shards: a cursor of %d characters, with a point in time: %t", tt.shards, len(q.Cursor), pitOf(t, q.Cursor) != "")
		require.Equal(t, tt.pit, pitOf(t, q.Cursor) != "")
		require.LessOrEqual(t, len(q.Cursor), search.MaxCursor)
		require.Equal(t, []uuid.UUID{a}, next(t, w, &q))
		require.Empty(t, q.Cursor)
	}
}

func TestSearchesPassTheTraceOn(t *testing.T) {
	t.Parallel()
	w, taps, _, q := pitWorld(t, 1)
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	_, err := w.searcher.Search(telemetry.WithTrace(t.Context(), telemetry.Trace{ID: "x", Parent: parent}), q)
	require.NoError(t, err)
	require.Equal(t, parent, taps.header.Get("traceparent"))
	require.Equal(t, "atlas-search", taps.header.Get("X-Opaque-Id"))
}
