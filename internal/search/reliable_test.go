package search_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/elastic/go-elasticsearch/v8"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/search"
)

// gated is a world of one item, in an index that is recorded as filled, with a searcher as the API's: it has answered already.
type gated struct {
	world
	es    *elasticsearch.Client
	alias string
	taps  *tap
	c     uuid.UUID
	item  uuid.UUID
}

func newGated(t *testing.T) *gated {
	t.Helper()
	es := indexingtest.Client(t)
	g := &gated{es: es, alias: indexingtest.NewAlias(t, es), taps: &tap{Interface: es}}
	g.world = worldOn(t, es, g.alias)
	g.record(t)
	g.c = g.Collection(t)
	g.item = g.Item(t, g.c, "needle", "")
	g.publish(t, g.item)
	gate := search.NewGate(g.Pool, g.alias)
	g.searcher = search.NewFallback(search.NewElasticsearch(g.taps, g.alias).Behind(gate), search.NewPostgres(g.Pool)).Behind(gate)
	g.answers(t, "needle", false, g.item)
	return g
}

// record says of the index behind the alias that it is filled.
func (g *gated) record(t *testing.T) {
	t.Helper()
	index, there, err := elastic.OwnBehindAlias(t.Context(), g.es, g.alias)
	require.NoError(t, err)
	require.True(t, there)
	err = db.New(g.Pool).AdoptSearchIndex(t.Context(), db.AdoptSearchIndexParams{Alias: g.alias, IndexUuid: index.UUID, Name: index.Name})
	require.NoError(t, err)
}

func (g *gated) answers(t *testing.T, text string, degraded bool, items ...uuid.UUID) {
	t.Helper()
	page, err := g.searcher.Search(t.Context(), search.Query{Match: parse(t, text), CollectionIDs: []uuid.UUID{g.c}, Correct: true})
	require.NoError(t, err)
	require.ElementsMatch(t, items, ids(page))
	require.Equal(t, degraded, page.Degraded)
}

// suggests asks as answers does.
func (g *gated) suggests(t *testing.T, text string, degraded bool, items int) {
	t.Helper()
	found, err := g.searcher.Suggest(t.Context(), search.Prefix{Text: text, CollectionIDs: []uuid.UUID{g.c}, Limit: 5})
	require.NoError(t, err)
	require.Len(t, found.Items, items)
	require.Equal(t, degraded, found.Degraded)
}

// TestAnIndexThatNobodyFilledIsNotBelieved, from the first search on: neither when it finds nothing, nor when it finds what was written last.
func TestAnIndexThatNobodyFilledIsNotBelieved(t *testing.T) {
	t.Parallel()
	remake := func(t *testing.T, g *gated) {
		t.Helper()
		indexingtest.DropIndices(t, g.es, g.alias)
		// Another definition, so that the name differs within one second too.
		require.NoError(t, elastic.EnsureIndex(t.Context(), g.es, g.alias, elastic.Params{Shards: 2}))
	}
	for name, ask := range map[string]func(t *testing.T, g *gated){
		"nothing is found": func(t *testing.T, g *gated) {
			remake(t, g)
			g.answers(t, "needle", true, g.item)
		},
		"nothing is suggested": func(t *testing.T, g *gated) {
			remake(t, g)
			g.suggests(t, "need", true, 1)
		},
		"what was written last is found": func(t *testing.T, g *gated) {
			remake(t, g)
			last := g.Item(t, g.c, "needle too", "")
			g.publish(t, last)
			g.answers(t, "needle", true, g.item, last)
		},
		"what was written last is suggested": func(t *testing.T, g *gated) {
			remake(t, g)
			g.publish(t, g.Item(t, g.c, "needle too", ""))
			g.suggests(t, "need", true, 2)
		},
		"it is seen to lack items": func(t *testing.T, g *gated) {
			remake(t, g)
			index, _, err := elastic.OwnBehindAlias(t.Context(), g.es, g.alias)
			require.NoError(t, err)
			err = db.New(g.Pool).SeeSearchIndex(t.Context(), db.SeeSearchIndexParams{Alias: g.alias, IndexUuid: index.UUID, Name: index.Name, Incomplete: true})
			require.NoError(t, err)
			g.answers(t, "needle", true, g.item)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ask(t, newGated(t))
		})
	}
}

// TestAFilledIndexIsBelieved: of what it finds Elasticsearch is asked once, as ever, and where it has nothing PostgreSQL does not answer.
func TestAFilledIndexIsBelieved(t *testing.T) {
	t.Parallel()
	g := newGated(t)
	asked := len(g.taps.paths)
	g.answers(t, "needle", false, g.item)
	g.suggests(t, "need", false, 1)
	require.Len(t, g.taps.paths, asked+2)
	g.answers(t, "haystack", false)
	g.suggests(t, "hay", false, 0)

	// The next one is recorded before the alias leads to it, as by a rebuild: after the gate has looked last.
	indexingtest.DropIndices(t, g.es, g.alias)
	require.NoError(t, elastic.EnsureIndex(t.Context(), g.es, g.alias, elastic.Params{Shards: 2}))
	g.publish(t, g.item)
	g.record(t)
	g.answers(t, "needle", false, g.item)
	asked = len(g.taps.paths)
	g.answers(t, "needle", false, g.item)
	require.Len(t, g.taps.paths, asked+1)
	g.answers(t, "haystack", false)
}

// TestNothingIsMissingWhereNothingIs: a new installation's index is not filled, and complete.
func TestNothingIsMissingWhereNothingIs(t *testing.T) {
	t.Parallel()
	g := newGated(t)
	g.Exec(t, "DELETE FROM search_indices")
	g.Exec(t, "DELETE FROM items")
	indexingtest.DropIndices(t, g.es, g.alias)
	require.NoError(t, elastic.EnsureIndex(t.Context(), g.es, g.alias, elastic.Params{Shards: 2}))
	g.answers(t, "needle", false)
}

// TestAForeignIndexIsNotBelieved, whatever it answers.
func TestAForeignIndexIsNotBelieved(t *testing.T) {
	t.Parallel()
	def, err := elastic.Definition(elastic.Params{})
	require.NoError(t, err)
	for name, body := range map[string]map[string]any{
		"it refuses the query": {},
		"it finds nothing":     {"settings": def.Settings, "mappings": def.Mappings},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGated(t)
			indexingtest.Replace(t, g.es, g.alias, body)
			if len(body) == 1 { // an index takes what it is given
				request(t, g.es, http.MethodPost, "/"+g.alias+"/_doc?refresh=true", map[string]any{"id": "theirs"})
			}
			g.answers(t, "needle", true, g.item)
		})
	}
}

// refusing answers every search with 400.
type refusing struct{ elastictransport.Interface }

func (r refusing) Perform(req *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(req.URL.Path, "/_search") {
		return r.Interface.Perform(req)
	}
	return &http.Response{StatusCode: http.StatusBadRequest, Body: io.NopCloser(strings.NewReader("no"))}, nil
}

// TestARefusalOfAnOwnIndexIsTheQuerysFault, and of another one the index's.
func TestARefusalOfAnOwnIndexIsTheQuerysFault(t *testing.T) {
	t.Parallel()
	es := indexingtest.Client(t)
	alias := indexingtest.NewAlias(t, es)
	searcher := search.NewElasticsearch(refusing{es}, alias)
	ask := func() []error {
		in := []uuid.UUID{uuid.New()}
		_, found := searcher.Search(t.Context(), search.Query{Match: parse(t, "x"), CollectionIDs: in})
		_, suggested := searcher.Suggest(t.Context(), search.Prefix{Text: "x", CollectionIDs: in, Limit: 5})
		_, fresh := searcher.Fresh(t.Context(), []search.Write{{ItemID: uuid.New(), Version: 1, Indexed: 1}})
		return []error{found, suggested, fresh}
	}
	for _, err := range ask() {
		require.ErrorIs(t, err, search.ErrQuery)
		require.NotErrorIs(t, err, search.ErrUnavailable)
	}
	indexingtest.Replace(t, es, alias, map[string]any{})
	for _, err := range ask() {
		require.ErrorIs(t, err, search.ErrUnavailable)
		require.NotErrorIs(t, err, search.ErrQuery)
	}
}
