package template_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/elastic/go-elasticsearch/v8"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/template"
	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/testenv"
)

func connect(t *testing.T) (template.Admin, *elasticsearch.Client, string) {
	t.Helper()
	list := testenv.Require(t, testenv.ElasticsearchURL)
	addresses := strings.Split(list, ",")
	admin, err := template.ConnectElasticsearch(t.Context(), template.Target{Addresses: addresses})
	require.NoError(t, err)
	es, err := elasticsearch.NewClient(elasticsearch.Config{Addresses: addresses})
	require.NoError(t, err)
	alias := "op" + strings.ReplaceAll(uuid.NewString(), "-", "")
	t.Cleanup(func() {
		state, err := elastic.ObserveIndex(context.WithoutCancel(t.Context()), es, alias)
		if err == nil {
			for name := range state.Indices {
				_, _ = es.Indices.Delete([]string{name})
			}
		}
		_, _ = es.Indices.DeleteIndexTemplate(elastic.TemplateName(alias))
		admin.Close()
	})
	return admin, es, alias
}

func settle(t *testing.T, admin template.Admin, alias string, params elastic.Params) string {
	t.Helper()
	var text string
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		var err error
		text, err = template.Ensure(t.Context(), admin, alias, params)
		if outdated, ok := apply.AsOutdated(err); ok {
			text, err = outdated.Message, nil
		}
		require.NoError(c, err)
	}, time.Minute, 50*time.Millisecond)
	return text
}

func TestEnsureCreatesAndCorrectsDrift(t *testing.T) {
	t.Parallel()
	admin, es, alias := connect(t)
	params := elastic.Params{Shards: 1, RefreshInterval: time.Second}

	_, err := template.Ensure(t.Context(), admin, alias, params)
	waiting, ok := apply.AsWaiting(err)
	require.True(t, ok, "a change must be seen before it counts")
	require.False(t, waiting.Lost)
	text := settle(t, admin, alias, params)
	require.Contains(t, text, "alias "+alias+" leads to "+alias+"-")

	res, err := es.Indices.DeleteIndexTemplate(elastic.TemplateName(alias))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	res, err = es.Indices.PutSettings(strings.NewReader(`{"index":{"refresh_interval":"30s"}}`), es.Indices.PutSettings.WithIndex(alias))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	settle(t, admin, alias, params)

	state, err := admin.Observe(t.Context(), alias)
	require.NoError(t, err)
	require.NotNil(t, state.Template)
	require.Len(t, state.Indices, 1)
	for _, settings := range state.Indices {
		require.Equal(t, "1000ms", settings["index.refresh_interval"])
	}

	params.Shards = 2
	require.Contains(t, settle(t, admin, alias, params), "number of shards than asked for")
}

func TestAliasTakenByAnIndexIsStalled(t *testing.T) {
	t.Parallel()
	admin, es, alias := connect(t)
	res, err := es.Indices.Create(alias)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	t.Cleanup(func() { _, _ = es.Indices.Delete([]string{alias}) })
	_, err = template.Ensure(t.Context(), admin, alias, elastic.Params{})
	stalled, ok := apply.AsStalled(err)
	require.True(t, ok, "%v", err)
	require.Contains(t, stalled.Message, "delete that index")
}

func TestUnreachableAddressIsNamed(t *testing.T) {
	t.Parallel()
	// A port that was free a moment ago refuses connections.
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := "http://" + listener.Addr().String()
	require.NoError(t, listener.Close())
	admin, err := template.ConnectElasticsearch(t.Context(), template.Target{Addresses: []string{address}})
	require.NoError(t, err)
	_, err = template.Ensure(t.Context(), admin, "items", elastic.Params{})
	waiting, ok := apply.AsWaiting(err)
	require.True(t, ok, "%v", err)
	require.True(t, waiting.Lost)
	require.Equal(t, "Elasticsearch at "+address+" can't be reached: connect: connection refused"+wayOut, waiting.Message)
}

func TestSilentAddressIsGivenUpSoon(t *testing.T) {
	t.Parallel()
	// The kernel accepts connections for a listener whose owner never does.
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	address := "http://" + listener.Addr().String()
	admin, err := template.ConnectElasticsearch(t.Context(), template.Target{Addresses: []string{address}})
	require.NoError(t, err)

	start := time.Now()
	_, err = template.Ensure(t.Context(), admin, "items", elastic.Params{})
	waiting, ok := apply.AsWaiting(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "Elasticsearch at "+address+" can't be reached: timed out"+wayOut, waiting.Message)
	require.Less(t, time.Since(start), 8*time.Second)
}
