package template_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/elastic"
)

// TestDropLeavesNothing of the alias: an index behind it, a detached one, one that is being built. What is of an alias that extends it stays, and so does an
// index of another name that somebody put behind it.
func TestDropLeavesNothing(t *testing.T) {
	t.Parallel()
	admin, es, alias := connect(t)
	params := elastic.Params{Shards: 1, RefreshInterval: time.Second}
	settle(t, admin, alias, params)
	longer := alias + "-more"
	t.Cleanup(func() {
		require.NoError(t, admin.Drop(context.WithoutCancel(t.Context()), longer))
	})
	settle(t, admin, longer, params)

	def, err := elastic.Definition(params)
	require.NoError(t, err)
	detached := def.IndexName(alias, time.Now().Add(-time.Hour))
	building := def.IndexName(alias, time.Now().Add(time.Hour))
	put := "put" + alias
	for name, body := range map[string]string{
		detached: `{}`, building: `{"aliases":{"` + elastic.BuildTarget(building) + `":{}}}`, put: `{"aliases":{"` + alias + `":{}}}`,
	} {
		res, err := es.Indices.Create(name, es.Indices.Create.WithBody(strings.NewReader(body)))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, res.StatusCode, res.String())
	}

	uuid, err := admin.ClusterUUID(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, uuid)
	require.NoError(t, admin.Drop(t.Context(), alias))
	require.NoError(t, admin.Drop(t.Context(), alias), "what is gone is no error")

	state, err := admin.Observe(t.Context(), alias)
	require.NoError(t, err)
	require.Nil(t, state.Template)
	require.Empty(t, state.Indices)
	require.Empty(t, state.Detached)
	for name, status := range map[string]int{detached: http.StatusNotFound, building: http.StatusNotFound, put: http.StatusOK} {
		res, err := es.Indices.Exists([]string{name})
		require.NoError(t, err)
		require.Equal(t, status, res.StatusCode, name)
	}
	_, err = es.Indices.Delete([]string{put})
	require.NoError(t, err)
	state, err = admin.Observe(t.Context(), longer)
	require.NoError(t, err)
	require.NotNil(t, state.Template)
	require.Len(t, state.Indices, 1)
}
