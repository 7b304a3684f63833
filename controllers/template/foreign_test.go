package template_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/elastic/go-elasticsearch/v8"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/controllers/template"
	"github.com/atlas-platform/atlas/internal/elastic"
)

// foreign makes an index that is somebody else's, and returns what there is of it and of its aliases.
func foreign(t *testing.T, es *elasticsearch.Client, name string) func() map[string]any {
	t.Helper()
	res, err := es.Indices.Create(name, es.Indices.Create.WithBody(strings.NewReader(`{"settings":{"number_of_replicas":1,"refresh_interval":"42s"}}`)))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, res.String())
	t.Cleanup(func() { _, _ = es.Indices.Delete([]string{name}) })
	return func() map[string]any {
		t.Helper()
		res, err := es.Indices.Get([]string{name})
		require.NoError(t, err)
		defer func() { _ = res.Body.Close() }()
		require.Equal(t, http.StatusOK, res.StatusCode, "it is there")
		var found map[string]any
		require.NoError(t, json.NewDecoder(res.Body).Decode(&found))
		return found
	}
}

// move leads an alias to another index by hand.
func move(t *testing.T, es *elasticsearch.Client, actions string) {
	t.Helper()
	res, err := es.Indices.UpdateAliases(strings.NewReader(`{"actions":[` + actions + `]}`))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, res.String())
}

// only returns the one index behind the alias, which is its own.
func only(t *testing.T, admin template.Admin, es *elasticsearch.Client, alias string) elastic.IndexID {
	t.Helper()
	state, err := admin.Observe(t.Context(), alias)
	require.NoError(t, err)
	require.Empty(t, state.Foreign)
	require.Empty(t, state.Detached)
	require.Len(t, state.Indices, 1)
	index, there, err := elastic.OwnBehindAlias(t.Context(), es, alias)
	require.NoError(t, err)
	require.True(t, there)
	return index
}

// TestAliasThatWasLedElsewhere leads to an index of its own again. The other one is as it was: neither its settings nor its contents are Atlas's.
func TestAliasThatWasLedElsewhere(t *testing.T) {
	t.Parallel()
	admin, es, alias := connect(t)
	params := elastic.Params{Shards: 1, RefreshInterval: time.Second}
	settle(t, admin, alias, params)
	before := only(t, admin, es, alias)
	theirs := "theirs-" + alias
	look := foreign(t, es, theirs)
	as := look()

	add, remove := `{"add":{"index":"`+theirs+`","alias":"`+alias+`"}}`, `{"remove":{"index":"`+before.Name+`","alias":"`+alias+`"}}`
	move(t, es, add+","+remove)
	settle(t, admin, alias, params)
	after := only(t, admin, es, alias)
	require.NotEqual(t, before, after, "what was written meanwhile is lacking in the former one")
	require.Equal(t, as, look())

	move(t, es, add) // beside its own
	settle(t, admin, alias, params)
	require.Equal(t, after, only(t, admin, es, alias))
	require.Equal(t, as, look())

	move(t, es, add+`,{"remove":{"index":"`+after.Name+`","alias":"`+alias+`"}}`)
	index, there, err := elastic.OwnBehindAlias(t.Context(), es, alias)
	require.NoError(t, err)
	require.False(t, there, "%v", index)
	require.NoError(t, elastic.RenewIndex(t.Context(), es, alias, nil)) // the indexer does not wait for the operator
	require.NotEqual(t, after, only(t, admin, es, alias))
	require.Equal(t, as, look())

	move(t, es, add)
	require.NoError(t, admin.Drop(t.Context(), alias))
	require.Equal(t, as, look())
}
