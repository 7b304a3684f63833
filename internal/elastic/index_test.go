package elastic_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/elastic/go-elasticsearch/v8"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/testenv"
)

func indexClient(t *testing.T) *elasticsearch.Client {
	t.Helper()
	url := testenv.Require(t, testenv.ElasticsearchURL)
	es, err := elasticsearch.NewClient(elasticsearch.Config{Addresses: strings.Split(url, ",")})
	require.NoError(t, err)
	return es
}

// uniqueAlias names an alias of this test only, and removes everything behind it afterwards.
func uniqueAlias(t *testing.T, es *elasticsearch.Client) string {
	t.Helper()
	alias := "t" + strings.ReplaceAll(uuid.NewString(), "-", "")
	t.Cleanup(func() {
		// The test's own context has ended by now.
		state, err := elastic.ObserveIndex(context.WithoutCancel(t.Context()), es, alias)
		if err == nil {
			for name := range state.Indices {
				_, _ = es.Indices.Delete([]string{name})
			}
		}
		_, _ = es.Indices.DeleteIndexTemplate(elastic.TemplateName(alias))
	})
	return alias
}

func definition(t *testing.T, p elastic.Params) elastic.IndexDefinition {
	t.Helper()
	def, err := elastic.Definition(p)
	require.NoError(t, err)
	return def
}

func TestDefinitionHashNamesWhatAnIndexCannotChange(t *testing.T) {
	t.Parallel()
	base := definition(t, elastic.Params{})
	require.Equal(t, base, definition(t, elastic.Params{Shards: 1, RefreshInterval: time.Second}), "zero values are the defaults")
	require.Equal(t, base.Hash, definition(t, elastic.Params{Replicas: 2, RefreshInterval: time.Minute}).Hash)
	require.NotEqual(t, base.Hash, definition(t, elastic.Params{Shards: 2}).Hash)
	require.Equal(t, "a-"+base.Hash[:8]+"-20260102030405", base.IndexName("a", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))
}

func TestPlanIndex(t *testing.T) {
	t.Parallel()
	def := definition(t, elastic.Params{Replicas: 1})
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	name := def.IndexName("items", now)
	ready := func() elastic.IndexState {
		return elastic.IndexState{Template: def.Template("items"), Indices: map[string]map[string]any{name: {
			"index.number_of_replicas": "1", "index.refresh_interval": "1000ms", "index.gc_deletes": "1h", "index.uuid": "x",
		}}, Leads: map[string]elastic.Lead{name: {Write: true}}}
	}
	older := def.IndexName("items", now.Add(-time.Hour))
	straight, renewed := []string{"lead alias items to all of index " + name + ", and to no other"}, func(left string) []string {
		return []string{"lead alias items away from index " + left, "create index " + name + " behind alias items"}
	}
	for _, tc := range []struct {
		name   string
		change func(*elastic.IndexState)
		want   []string
	}{
		{name: "nothing to do", change: func(*elastic.IndexState) {}},
		{name: "empty cluster", change: func(s *elastic.IndexState) { *s = elastic.IndexState{} }, want: []string{
			"put index template items-template", "create index " + name + " behind alias items",
		}},
		{name: "template edited", change: func(s *elastic.IndexState) { s.Template["priority"] = 1 }, want: []string{
			"put index template items-template",
		}},
		{name: "index gone", change: func(s *elastic.IndexState) { s.Indices = nil }, want: []string{
			"create index " + name + " behind alias items",
		}},
		{name: "alias gone", change: func(s *elastic.IndexState) { s.Indices, s.Detached = nil, []string{"items-old", name} }, want: []string{
			"lead alias items to index " + name + " again",
		}},
		{name: "replicas edited", change: func(s *elastic.IndexState) { s.Indices[name]["index.number_of_replicas"] = "0" }, want: []string{
			"update settings of index " + name,
		}},
		{name: "leads elsewhere as well", change: func(s *elastic.IndexState) { s.Foreign = []string{"theirs"} }, want: straight},
		{name: "leads elsewhere", change: func(s *elastic.IndexState) {
			s.Indices, s.Detached, s.Foreign = nil, []string{name}, []string{"theirs"}
		}, want: renewed("theirs")},
		{name: "what is written goes elsewhere", change: func(s *elastic.IndexState) {
			s.Leads[name], s.Foreign = elastic.Lead{}, []string{"theirs"}
		}, want: renewed("theirs, " + name)},
		{name: "takes no writes", change: func(s *elastic.IndexState) { s.Leads[name] = elastic.Lead{} }, want: straight},
		{name: "has a filter", change: func(s *elastic.IndexState) {
			s.Leads[name] = elastic.Lead{Write: true, Filter: map[string]any{"term": map[string]any{"tags": "a"}}}
		}, want: straight},
		{name: "looks in one shard", change: func(s *elastic.IndexState) { s.Leads[name] = elastic.Lead{Write: true, SearchRouting: "a"} }, want: straight},
		{name: "writes to one shard", change: func(s *elastic.IndexState) { s.Leads[name] = elastic.Lead{Write: true, IndexRouting: "a"} }, want: renewed(name)},
		{name: "another beside it", change: func(s *elastic.IndexState) { s.Indices[older] = nil }, want: straight},
		{name: "another is written", change: func(s *elastic.IndexState) {
			s.Indices[older], s.Leads[name], s.Leads[older] = nil, elastic.Lead{}, elastic.Lead{Write: true}
		}, want: []string{"lead alias items to all of index " + older + ", and to no other"}},
		{name: "neither of two is written", change: func(s *elastic.IndexState) { s.Indices[older], s.Leads[name] = nil, elastic.Lead{} }, want: straight},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			state := ready()
			tc.change(&state)
			changes, err := elastic.PlanIndex("items", def, state, now)
			require.NoError(t, err)
			var got []string
			for _, c := range changes {
				got = append(got, c.Description)
			}
			require.Equal(t, tc.want, got)
		})
	}

	_, err := elastic.PlanIndex("items", def, elastic.IndexState{AliasIsIndex: true}, now)
	require.ErrorIs(t, err, elastic.ErrAliasIsIndex)
}

func TestEnsureIndexIsIdempotentAndCorrectsDrift(t *testing.T) {
	t.Parallel()
	es := indexClient(t)
	alias := uniqueAlias(t, es)
	params := elastic.Params{Shards: 2, RefreshInterval: 500 * time.Millisecond}
	require.NoError(t, elastic.EnsureIndex(t.Context(), es, alias, params))

	plan := func(p elastic.Params) []elastic.IndexChange {
		state, err := elastic.ObserveIndex(t.Context(), es, alias)
		require.NoError(t, err)
		require.Len(t, state.Indices, 1)
		changes, err := elastic.PlanIndex(alias, definition(t, p), state, time.Now())
		require.NoError(t, err)
		return changes
	}
	require.Empty(t, plan(params), "what Elasticsearch shows must equal what was asked for")

	changed := elastic.Params{Shards: 2, Replicas: 1, RefreshInterval: time.Second}
	require.Len(t, plan(changed), 2, "template and live index")
	require.NoError(t, elastic.EnsureIndex(t.Context(), es, alias, changed))
	require.Empty(t, plan(changed))

	res, err := es.Indices.DeleteIndexTemplate(elastic.TemplateName(alias))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.NoError(t, elastic.EnsureIndex(t.Context(), es, alias, changed))
	require.Empty(t, plan(changed))
}

func TestEnsureIndexLeadsALostAliasBackToItsIndex(t *testing.T) {
	t.Parallel()
	es := indexClient(t)
	alias := uniqueAlias(t, es)
	def := definition(t, elastic.Params{})
	old := def.IndexName(alias, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	// An index of the alias <alias>-x matches the pattern of <alias> too, and is not this alias's.
	for _, name := range []string{old, def.IndexName(alias+"-x", time.Now()), alias + "-something-else"} {
		res, err := es.Indices.Create(name)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, res.StatusCode)
		t.Cleanup(func() { _, _ = es.Indices.Delete([]string{name}) })
	}
	require.NoError(t, elastic.EnsureIndex(t.Context(), es, alias, elastic.Params{}))
	state, err := elastic.ObserveIndex(t.Context(), es, alias)
	require.NoError(t, err)
	require.Len(t, state.Indices, 1)
	require.Contains(t, state.Indices, old)

	newer := def.IndexName(alias, time.Now())
	res, err := es.Indices.Create(newer)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	t.Cleanup(func() { _, _ = es.Indices.Delete([]string{newer}) })
	res, err = es.Indices.DeleteAlias([]string{old}, []string{alias})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.NoError(t, elastic.EnsureIndex(t.Context(), es, alias, elastic.Params{}))
	state, err = elastic.ObserveIndex(t.Context(), es, alias)
	require.NoError(t, err)
	require.Len(t, state.Indices, 1)
	require.Contains(t, state.Indices, newer)
}

func TestEnsureIndexSurvivesRaces(t *testing.T) {
	t.Parallel()
	es := indexClient(t)
	alias := uniqueAlias(t, es)
	errs := make([]error, 6)
	var group sync.WaitGroup
	for i := range errs {
		group.Go(func() { errs[i] = elastic.EnsureIndex(t.Context(), es, alias, elastic.Params{}) })
	}
	group.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	state, err := elastic.ObserveIndex(t.Context(), es, alias)
	require.NoError(t, err)
	require.Len(t, state.Indices, 1)
}

func TestEnsureIndexRefusesAnIndexInTheAliasesPlace(t *testing.T) {
	t.Parallel()
	es := indexClient(t)
	alias := uniqueAlias(t, es)
	res, err := es.Indices.Create(alias)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	t.Cleanup(func() { _, _ = es.Indices.Delete([]string{alias}) })
	require.ErrorIs(t, elastic.EnsureIndex(t.Context(), es, alias, elastic.Params{}), elastic.ErrAliasIsIndex)
}

func TestIndexTakesItemsAndFoldsWords(t *testing.T) {
	t.Parallel()
	es := indexClient(t)
	alias := uniqueAlias(t, es)
	require.NoError(t, elastic.EnsureIndex(t.Context(), es, alias, elastic.Params{}))
	const doc = `{"id":"1","collection_id":"c","title":"The café's engines","content":"Running databases","tags":["a"],` +
		`"source_url":"https://example.com","created_by":"u","created_at":"2026-01-02T03:04:05Z","updated_at":"2026-01-02T03:04:05Z","version":3}`
	res, err := es.Index(alias, strings.NewReader(doc), es.Index.WithDocumentID("1"), es.Index.WithRefresh("true"),
		es.Index.WithVersion(3), es.Index.WithVersionType("external"), es.Index.WithRequireAlias(true))
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, res.StatusCode, res.String())

	for query, hits := range map[string]int{
		`{"match":{"title":"CAFE engine"}}`: 1, `{"match":{"content":"run database"}}`: 1, `{"match":{"content.exact":"run"}}`: 0,
	} {
		res, err := es.Count(es.Count.WithIndex(alias), es.Count.WithBody(strings.NewReader(`{"query":`+query+`}`)))
		require.NoError(t, err)
		require.Contains(t, res.String(), fmt.Sprintf(`"count":%d`, hits), query)
	}

	res, err = es.Index(alias, strings.NewReader(`{"id":"2","surprise":1}`))
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, res.StatusCode, "an unknown field must be refused")
}
