package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/search"
	"github.com/atlas-platform/atlas/services/api"
)

// indexed is an API that searches Elasticsearch, and the indexer that brings items there.
type indexed struct {
	*testBundle
	indexer *indexing.Indexer
	refresh func()
}

func setupIndexed(t *testing.T) indexed {
	t.Helper()
	pool, es := pgtest.New(t), indexingtest.Client(t)
	alias := indexingtest.NewAlias(t, es)
	return indexed{
		testBundle: setupWith(t, pool, search.NewElasticsearch(es, alias)), // no fallback: a slow machine must not degrade a test
		indexer:    indexing.New(pool, es, alias),
		refresh:    func() { indexingtest.Refresh(t, es, alias) },
	}
}

// sync gives the items to the index, which shows them after its next refresh.
func (x indexed) sync(items ...string) {
	x.t.Helper()
	targets := make([]indexing.Target, len(items))
	for i, id := range items {
		targets[i].ItemID = uuid.MustParse(id)
	}
	rejected, err := x.indexer.Sync(x.t.Context(), targets)
	require.NoError(x.t, err)
	require.Empty(x.t, rejected)
}

func TestSearchWaitsForAWrite(t *testing.T) {
	t.Parallel()
	x := setupIndexed(t)
	ada := x.account("ada")
	c := x.collection(ada, "c")
	item := x.item(ada, c, "needle")
	wait := func(version int) answer {
		return x.call(ada, "GET", fmt.Sprintf("/v1/search?q=needle&wait_for=%s:%d", item, version), nil).is(200)
	}
	later := func(change func()) {
		done := make(chan struct{})
		t.Cleanup(func() { <-done })
		go func() {
			defer close(done)
			change()
		}()
	}
	later(func() { x.sync(item) }) // the index refreshes itself
	a := wait(1)
	require.Equal(t, true, a.body["fresh"])
	require.Equal(t, false, a.body["degraded"])
	require.Len(t, a.items(), 1)

	x.call(ada, "PATCH", "/v1/items/"+item, map[string]any{"title": "needles"}).is(200)
	later(func() { x.sync(item) })
	require.Equal(t, "needles", wait(2).items()[0]["title"])
	require.Equal(t, true, wait(1).body["fresh"])

	x.call(ada, "DELETE", "/v1/items/"+item, nil).is(204)
	later(func() { x.sync(item) })
	a = wait(3)
	require.Equal(t, true, a.body["fresh"])
	require.Empty(t, a.items())
	require.Zero(t, a.body["total"], "the document is gone")
	require.NotContains(t, x.call(ada, "GET", "/v1/search", nil).is(200).body, "fresh")
}

func TestSearchWaitsForMembersOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	c := b.collection(ada, "c")
	item := b.item(ada, c, "needle")
	path := "/v1/search?wait_for=" + item + ":1"
	require.Equal(t, true, b.call(ada, "GET", path, nil).is(200).body["fresh"])
	foreign := b.call(eve, "GET", path, nil).problem(404, "not-found")
	unknown := b.call(eve, "GET", "/v1/search?wait_for="+uuid.NewString()+":1", nil).problem(404, "not-found")
	require.Equal(t, unknown.body["detail"], foreign.body["detail"])
	b.call(eve, "GET", "/v1/search?wait_for="+item+":999999999999999999", nil).problem(404, "not-found")

	b.member(ada, c, eve, "viewer")
	require.Equal(t, true, b.call(eve, "GET", path, nil).is(200).body["fresh"])
	b.call(ada, "DELETE", "/v1/items/"+item, nil).is(204)
	require.Equal(t, true, b.call(eve, "GET", "/v1/search?wait_for="+item+":2", nil).is(200).body["fresh"], "a deletion")
	b.call(ada, "DELETE", "/v1/collections/"+c+"/members/"+eve.id, nil).is(204)
	b.call(eve, "GET", path, nil).problem(404, "not-found")
	b.call(ada, "DELETE", "/v1/collections/"+c, nil).is(204)
	b.call(ada, "GET", path, nil).problem(404, "not-found")

	for _, wrong := range []string{"", item, item + ":", item + ":0", item + ":-1", item + ":1.5", item + ":01", item + ":1000000000000000000", "x:1", item + ":1:1"} {
		b.call(ada, "GET", "/v1/search?wait_for="+wrong, nil).problem(400, "invalid-request", "wait_for")
	}
}

// waitingBundle waits for a short time only.
func waitingBundle(t *testing.T, b *testBundle, searcher api.Searcher, wait time.Duration) *testBundle {
	t.Helper()
	return setupDeps(t, b.pool, searcher, func(d *api.Deps) { d.SearchWait, d.SigningKey = wait, b.key })
}

func TestSearchDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	item := b.item(ada, c, "needle")
	short := waitingBundle(t, b, search.NewPostgres(b.pool), 100*time.Millisecond)
	a := short.call(ada, "GET", "/v1/search?wait_for="+item+":2", nil).is(200)
	require.Equal(t, false, a.body["fresh"], "nobody has written that")
	require.Len(t, a.items(), 1)

	// Nor longer than the caller does.
	ctx, cancel := context.WithCancel(t.Context())
	waiting := waitingBundle(t, b, askedSearcher{search.NewPostgres(b.pool), cancel}, time.Hour)
	request, err := http.NewRequestWithContext(ctx, "GET", waiting.server.URL+"/v1/search?wait_for="+item+":1", nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+ada.token)
	response, err := waiting.server.Client().Do(request)
	if err == nil {
		_ = response.Body.Close()
	}
	require.ErrorIs(t, err, context.Canceled)
	waiting.server.Close() // waits for the request's end
}

// askedSearcher finds nothing fresh and tells that it was asked.
type askedSearcher struct {
	api.Searcher
	asked func()
}

func (s askedSearcher) Fresh(_ context.Context, writes []search.Write) (search.Freshness, error) {
	s.asked()
	return search.Freshness{Found: make([]bool, len(writes))}, nil
}

// TestAThousandWaitersNeedOneConnection: other requests are answered meanwhile.
func TestAThousandWaitersNeedOneConnection(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	item := b.item(ada, c, "needle")
	pool, err := postgres.Open(t.Context(), b.pool.Config().ConnString(), 2)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	searcher := &countingSearcher{Searcher: search.NewPostgres(pool), all: make(chan struct{}), wanted: 1000}
	narrow := setupDeps(t, pool, searcher, func(d *api.Deps) { d.SearchWait, d.SigningKey = time.Minute, b.key })

	var group sync.WaitGroup
	answers := make([]int, searcher.wanted)
	for i := range answers {
		group.Go(func() {
			request, err := http.NewRequestWithContext(t.Context(), "GET", narrow.server.URL+"/v1/search?limit=1&wait_for="+item+":1", nil)
			if err != nil {
				return
			}
			request.Header.Set("Authorization", "Bearer "+ada.token)
			response, err := narrow.server.Client().Do(request)
			if err != nil {
				return
			}
			answers[i] = response.StatusCode
			_ = response.Body.Close()
		})
	}
	<-searcher.all // every one of them waits
	require.LessOrEqual(t, int(pool.Stat().AcquiredConns()), 2)
	narrow.call(ada, "GET", "/v1/items/"+item, nil).is(200)
	searcher.release()
	group.Wait()
	for _, status := range answers {
		require.Equal(t, 200, status)
	}
}

// countingSearcher finds nothing fresh until it is released. It closes all when so many wait in one round.
type countingSearcher struct {
	api.Searcher
	wanted int
	all    chan struct{}

	mu       sync.Mutex
	released bool
	closed   bool
}

func (s *countingSearcher) Fresh(_ context.Context, writes []search.Write) (search.Freshness, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make([]bool, len(writes))
	for i := range found {
		found[i] = s.released
	}
	if len(writes) >= s.wanted*9/10 && !s.closed { // the first of a moment may be alone
		s.closed = true
		close(s.all)
	}
	return search.Freshness{Found: found}, nil
}

func (s *countingSearcher) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released = true
}

// TestFreshIsTrueForTheEngineThatAnswers: one engine waits, and the other one answers.
func TestFreshIsTrueForTheEngineThatAnswers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	c := b.collection(ada, "c")
	item := b.item(ada, c, "needle")
	for name, tt := range map[string]struct {
		found, waitedDegraded, answeredDegraded bool
		version                                 int
		want                                    bool
	}{
		"Elasticsearch has it":                         {found: true, version: 1, want: true},
		"it went while the search waited":              {version: 1, answeredDegraded: true, want: true},
		"it was away, and PostgreSQL has it":           {found: true, waitedDegraded: true, answeredDegraded: true, version: 1, want: true},
		"it came back: nobody knows what it has":       {found: true, waitedDegraded: true, version: 1},
		"it has not got it":                            {version: 1},
		"nobody has written that, whoever answers it":  {version: 2, answeredDegraded: true},
		"nobody has written that, whoever is asked it": {version: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			searcher := enginesSearcher{search.NewPostgres(b.pool), search.Freshness{Found: []bool{tt.found}, Degraded: tt.waitedDegraded}, tt.answeredDegraded}
			short := waitingBundle(t, b, searcher, time.Millisecond)
			a := short.call(ada, "GET", fmt.Sprintf("/v1/search?wait_for=%s:%d", item, tt.version), nil).is(200)
			require.Equal(t, tt.want, a.body["fresh"])
			require.Equal(t, tt.answeredDegraded, a.body["degraded"])
		})
	}
	failing := waitingBundle(t, b, freshFails{search.NewPostgres(b.pool)}, time.Minute)
	failing.call(ada, "GET", "/v1/search?wait_for="+item+":1", nil).problem(503, "unavailable")
}

type enginesSearcher struct {
	api.Searcher
	fresh    search.Freshness
	degraded bool
}

func (s enginesSearcher) Fresh(context.Context, []search.Write) (search.Freshness, error) {
	return s.fresh, nil
}

func (s enginesSearcher) Search(ctx context.Context, q search.Query) (search.Page, error) {
	page, err := s.Searcher.Search(ctx, q)
	page.Degraded = s.degraded
	return page, err
}

type freshFails struct{ api.Searcher }

func (freshFails) Fresh(context.Context, []search.Write) (search.Freshness, error) {
	return search.Freshness{}, errors.Join(search.ErrUnavailable)
}
