package template_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/elastic/go-elasticsearch/v8"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/template"
	"github.com/atlas-platform/atlas/internal/elastic"
)

// TestAnOlderIndexIsNamedUntilItIsRebuilt, here by hand.
func TestAnOlderIndexIsNamedUntilItIsRebuilt(t *testing.T) {
	t.Parallel()
	admin, es, alias := connect(t)
	params := elastic.Params{RefreshInterval: time.Second}
	def, err := elastic.Definition(params)
	require.NoError(t, err)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	old := alias + "-01234567-20250102030405"
	rebuilt := def.IndexName(alias, now)
	for _, name := range []string{old, rebuilt} {
		t.Cleanup(func() { _, _ = es.Indices.Delete([]string{name}) })
	}
	// As a former release made it: ranked by what the whole index has.
	send(t, es, http.MethodPut, "/"+old, fmt.Sprintf(`{
		"mappings": {"_meta": {"definition_hash": "0123456789"}, "properties": {"title": {"type": "text"}}}, "aliases": {%q: {"is_write_index": true}}
	}`, alias))
	send(t, es, http.MethodPut, "/"+alias+"/_doc/kept?version=7&version_type=external", `{"title": "kept"}`)
	send(t, es, http.MethodPut, "/"+alias+"/_doc/changed?version=1&version_type=external", `{"title": "former"}`)

	text := settle(t, admin, alias, params)
	require.Contains(t, text, old+", which has another mapping, ranking or number of shards than asked for; search works")
	require.Contains(t, text, "AtlasJob with type: reindex")
	_, err = template.Ensure(t.Context(), admin, alias, params)
	outdated, ok := apply.AsOutdated(err)
	require.True(t, ok)
	require.Equal(t, []string{"ReindexRequired", old, def.Hash}, []string{outdated.Reason, outdated.Index, outdated.Hash})

	copied := fmt.Sprintf(`{"conflicts": "proceed", "source": {"index": %q}, "dest": {"index": %q, "version_type": "external"}}`, old, rebuilt)
	send(t, es, http.MethodPut, "/"+rebuilt, "")
	send(t, es, http.MethodPost, "/"+old+"/_refresh", "")
	send(t, es, http.MethodPost, "/_reindex?refresh=true", copied)
	send(t, es, http.MethodPut, "/"+alias+"/_doc/late?version=1&version_type=external", `{"title": "while it copied"}`)
	send(t, es, http.MethodPost, "/_aliases", fmt.Sprintf(
		`{"actions": [{"remove": {"index": %[2]q, "alias": %[1]q}}, {"add": {"index": %[3]q, "alias": %[1]q, "is_write_index": true}}]}`, alias, old, rebuilt))
	send(t, es, http.MethodPut, "/"+alias+"/_doc/changed?version=2&version_type=external", `{"title": "changed"}`)
	send(t, es, http.MethodPost, "/"+old+"/_refresh", "")
	send(t, es, http.MethodPost, "/_reindex?refresh=true", copied)
	send(t, es, http.MethodDelete, "/"+old, "")

	require.Equal(t, "alias "+alias+" leads to "+rebuilt, settle(t, admin, alias, params))
	found := send(t, es, http.MethodGet, "/"+alias+"/_search?version=true&filter_path=hits.hits._id,hits.hits._version", "")
	for _, want := range []string{`"_id":"kept","_version":7`, `"_id":"changed","_version":2`, `"_id":"late","_version":1`} {
		require.Contains(t, found, want)
	}
}

func send(t *testing.T, es *elasticsearch.Client, method, path, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := es.Perform(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Less(t, res.StatusCode, 300, "%s %s: %s", method, path, raw)
	return string(raw)
}
