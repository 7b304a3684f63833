package elastic_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/elastic/go-elasticsearch/v8"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// overtaken is a client before whose first change somebody else is faster: whoever uses it has looked by then.
func overtaken(t *testing.T, faster func()) *elasticsearch.Client {
	t.Helper()
	es, err := elasticsearch.NewClient(elasticsearch.Config{
		Addresses: strings.Split(testenv.Require(t, testenv.ElasticsearchURL), ","), Transport: &overtaking{faster: faster},
	})
	require.NoError(t, err)
	return es
}

type overtaking struct {
	once   sync.Once
	faster func()
}

func (o *overtaking) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		o.once.Do(o.faster)
	}
	return http.DefaultTransport.RoundTrip(r)
}

// named are the indices of the alias's names, behind it or not.
func named(t *testing.T, es *elasticsearch.Client, alias string) []string {
	t.Helper()
	res, err := es.Indices.Get([]string{elastic.IndexPattern(alias)})
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	require.Equal(t, http.StatusOK, res.StatusCode)
	var found map[string]any
	require.NoError(t, json.NewDecoder(res.Body).Decode(&found))
	var names []string
	for name := range found {
		names = append(names, name)
	}
	return slices.Sorted(slices.Values(names))
}

// create makes an index that goes with the test.
func create(t *testing.T, es *elasticsearch.Client, name string) {
	t.Helper()
	res, err := es.Indices.Create(name)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, res.String())
	t.Cleanup(func() { _, _ = es.Indices.Delete([]string{name}) })
}

// dropNamed deletes with the test what has the alias's names.
func dropNamed(t *testing.T, es *elasticsearch.Client, alias string) {
	t.Helper()
	t.Cleanup(func() {
		for _, name := range named(t, es, alias) {
			_, _ = es.Indices.Delete([]string{name})
		}
	})
}

func updateAliases(t *testing.T, es *elasticsearch.Client, actions string) {
	t.Helper()
	res, err := es.Indices.UpdateAliases(strings.NewReader(`{"actions":[` + actions + `]}`))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, res.String())
}

// TestWhoLosesARaceLeavesNoIndex: it would have the alias's name and no items, and be the newest of them.
func TestWhoLosesARaceLeavesNoIndex(t *testing.T) {
	t.Parallel()
	away := func(t *testing.T, es *elasticsearch.Client, alias, own string) {
		t.Helper()
		theirs := "theirs-" + alias
		create(t, es, theirs)
		updateAliases(t, es, `{"add":{"index":"`+theirs+`","alias":"`+alias+`"}},{"remove":{"index":"`+own+`","alias":"`+alias+`"}}`)
	}
	stay := func(*testing.T, *elasticsearch.Client, string, string) {}
	ensure := func(t *testing.T, es *elasticsearch.Client, alias string, _ elastic.IndexID) {
		t.Helper()
		require.NoError(t, elastic.EnsureIndex(t.Context(), es, alias, elastic.Params{}))
	}
	for _, tt := range []struct {
		name   string
		before func(t *testing.T, es *elasticsearch.Client, alias, own string)
		lose   func(t *testing.T, es *elasticsearch.Client, alias string, own elastic.IndexID)
	}{
		{"the operator, of an alias that was led away", away, ensure},
		{"the indexer, of an alias that was led away", away, func(t *testing.T, es *elasticsearch.Client, alias string, _ elastic.IndexID) {
			t.Helper()
			require.Error(t, elastic.RenewIndex(t.Context(), es, alias, nil))
		}},
		{"the indexer, of an index that was emptied", stay, func(t *testing.T, es *elasticsearch.Client, alias string, own elastic.IndexID) {
			t.Helper()
			require.Error(t, elastic.RenewIndex(t.Context(), es, alias, &own))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			es := indexClient(t)
			alias := uniqueAlias(t, es)
			dropNamed(t, es, alias)
			require.NoError(t, elastic.EnsureIndex(t.Context(), es, alias, elastic.Params{}))
			own, there, err := elastic.BehindAlias(t.Context(), es, alias)
			require.NoError(t, err)
			require.True(t, there)
			tt.before(t, es, alias, own.Name)
			late := overtaken(t, func() {
				_, _ = es.Indices.Delete([]string{own.Name})
				// Another definition, so that the two names differ within one second too.
				require.NoError(t, elastic.EnsureIndex(t.Context(), es, alias, elastic.Params{Shards: 2}))
			})
			tt.lose(t, late, alias, own)
			now, there, err := elastic.BehindAlias(t.Context(), es, alias)
			require.NoError(t, err)
			require.True(t, there)
			require.NotEqual(t, own.Name, now.Name)
			require.Equal(t, []string{now.Name}, named(t, es, alias))
		})
	}
}

// TestALostAliasPrefersAnIndexWithItems to a newer one without any.
func TestALostAliasPrefersAnIndexWithItems(t *testing.T) {
	t.Parallel()
	es := indexClient(t)
	for name, mend := range map[string]func(alias string) error{
		"operator": func(alias string) error { return elastic.EnsureIndex(t.Context(), es, alias, elastic.Params{}) },
		"indexer":  func(alias string) error { return elastic.RenewIndex(t.Context(), es, alias, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			alias := uniqueAlias(t, es)
			dropNamed(t, es, alias)
			require.NoError(t, elastic.EnsureIndex(t.Context(), es, alias, elastic.Params{}))
			filled, _, err := elastic.BehindAlias(t.Context(), es, alias)
			require.NoError(t, err)
			res, err := es.Index(alias, strings.NewReader(`{"id":"1","title":"an item"}`), es.Index.WithRefresh("true"))
			require.NoError(t, err)
			require.False(t, res.IsError(), res.String())
			create(t, es, definition(t, elastic.Params{}).IndexName(alias, time.Now().Add(time.Hour)))
			updateAliases(t, es, `{"remove":{"index":"`+filled.Name+`","alias":"`+alias+`"}}`)

			require.NoError(t, mend(alias))
			now, there, err := elastic.BehindAlias(t.Context(), es, alias)
			require.NoError(t, err)
			require.True(t, there)
			require.Equal(t, filled, now)
		})
	}
}

// TestADeleteWithoutAliasMakesNoIndex of the alias's name, as Elasticsearch does otherwise: the alias leads nowhere for moments.
func TestADeleteWithoutAliasMakesNoIndex(t *testing.T) {
	t.Parallel()
	es := indexClient(t)
	alias := uniqueAlias(t, es)
	require.NoError(t, elastic.EnsureIndex(t.Context(), es, alias, elastic.Params{}))
	for _, name := range named(t, es, alias) {
		res, err := es.Indices.Delete([]string{name})
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, res.StatusCode)
	}
	t.Cleanup(func() { _, _ = es.Indices.Delete([]string{alias}) })
	res, err := es.Bulk(strings.NewReader(`{"delete":{"_id":"1","version":3,"version_type":"external_gte"}}`+"\n"), es.Bulk.WithIndex(alias), es.Bulk.WithRequireAlias(true))
	require.NoError(t, err)
	require.Contains(t, res.String(), "index_not_found_exception")
	state, err := elastic.ObserveIndex(t.Context(), es, alias)
	require.NoError(t, err)
	require.False(t, state.AliasIsIndex)
}
