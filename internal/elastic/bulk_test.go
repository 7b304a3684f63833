package elastic_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
)

func TestBulkWriterAnswersForEachAction(t *testing.T) {
	t.Parallel()
	es := indexingtest.Client(t)
	alias := indexingtest.NewAlias(t, es)
	writer := elastic.NewBulkWriter(es, alias, 200) // a body this small forces several requests
	good := func(id string, version int64) elastic.BulkAction {
		return elastic.BulkAction{ID: id, Version: version, VersionType: elastic.VersionExternal, Document: json.RawMessage(`{"title":"t"}`)}
	}
	results, err := writer.Write(context.Background(), []elastic.BulkAction{
		good("a", 5),
		good("a", 4), // older
		{ID: "b", Version: 1, VersionType: elastic.VersionExternal, Document: json.RawMessage(`{"no_such_field":1}`)},
		{ID: "c", Version: 1, VersionType: elastic.VersionExternal, Document: json.RawMessage(`{"created_at":"not a date"}`)},
		{ID: "d", Version: 1, VersionType: elastic.VersionExternalGTE}, // a delete of nothing
		{ID: "a", Version: 5, VersionType: elastic.VersionExternalGTE}, // a delete of the same version
		good("a", 5), // late
	})
	require.NoError(t, err)
	outcomes := make([]elastic.BulkOutcome, len(results))
	for i, r := range results {
		outcomes[i] = r.Outcome
	}
	require.Equal(t, []elastic.BulkOutcome{
		elastic.BulkApplied, elastic.BulkSuperseded, elastic.BulkRejected, elastic.BulkRejected, elastic.BulkApplied, elastic.BulkApplied,
		elastic.BulkSuperseded,
	}, outcomes)
	require.Contains(t, results[2].Reason, "no_such_field")
	require.Contains(t, results[3].Reason, "not a date")
}

func TestBulkWriterNeverMakesAnIndex(t *testing.T) {
	t.Parallel()
	es := indexingtest.Client(t)
	alias := "test-" + uuid.NewString()
	for _, document := range []json.RawMessage{nil, json.RawMessage(`{}`)} {
		_, err := elastic.NewBulkWriter(es, alias, 0).Write(context.Background(), []elastic.BulkAction{
			{ID: "a", Version: 1, VersionType: elastic.VersionExternal, Document: document},
		})
		require.ErrorIs(t, err, elastic.ErrUnavailable)
		require.Error(t, elastic.Ping(context.Background(), es, alias))
	}
}

// answerWith runs a server that looks like Elasticsearch and answers each bulk request by handler.
func answerWith(t *testing.T, handler func(w http.ResponseWriter, actions int)) *elastic.BulkWriter {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, err := body.ReadFrom(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("X-Elastic-Product", "Elasticsearch")
		w.Header().Set("Content-Type", "application/json")
		handler(w, strings.Count(body.String(), `{"index"`))
	}))
	t.Cleanup(server.Close)
	es, err := elastic.NewClient(elastic.Config{URLs: []string{server.URL}})
	require.NoError(t, err)
	return elastic.NewBulkWriter(es, "any", 0)
}

func actions(n int) []elastic.BulkAction {
	out := make([]elastic.BulkAction, n)
	for i := range out {
		out[i] = elastic.BulkAction{ID: fmt.Sprint(i), Version: 1, VersionType: elastic.VersionExternal, Document: json.RawMessage(`{}`)}
	}
	return out
}

func answer(w http.ResponseWriter, n, status int) {
	item := fmt.Sprintf(`{"index":{"status":%d}}`, status)
	_, _ = fmt.Fprintf(w, `{"errors":false,"items":[%s]}`, strings.TrimSuffix(strings.Repeat(item+",", n), ","))
}

func TestBulkWriterWaitsWhileElasticsearchIsBusy(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	writer := answerWith(t, func(w http.ResponseWriter, n int) {
		switch requests.Add(1) {
		case 1:
			w.WriteHeader(http.StatusTooManyRequests)
		case 2:
			answer(w, n, http.StatusTooManyRequests)
		default:
			answer(w, n, http.StatusCreated)
		}
	})
	var busy int
	writer.OnBusy(func() { busy++ })
	results, err := writer.Write(context.Background(), actions(2))
	require.NoError(t, err)
	require.Equal(t, []elastic.BulkResult{{}, {}}, results)
	require.EqualValues(t, 3, requests.Load())
	require.Equal(t, 2, busy)
}

// TestBulkWriterWaitsNoLongerThanItsContext when Elasticsearch stays busy, and gives up by itself after a few tries.
func TestBulkWriterWaitsNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	writer := answerWith(t, func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusTooManyRequests) })
	writer.OnBusy(cancel)
	_, err := writer.Write(ctx, actions(1))
	require.ErrorIs(t, err, context.Canceled)

	var busy int
	writer.OnBusy(func() { busy++ })
	_, err = writer.Write(context.Background(), actions(1))
	require.ErrorIs(t, err, elastic.ErrUnavailable)
	require.Equal(t, 5, busy)
}

func TestBulkWriterHalvesABodyThatIsTooLarge(t *testing.T) {
	t.Parallel()
	writer := answerWith(t, func(w http.ResponseWriter, n int) {
		if n > 1 {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		answer(w, n, http.StatusCreated)
	})
	results, err := writer.Write(context.Background(), actions(5))
	require.NoError(t, err)
	require.Len(t, results, 5)

	writer = answerWith(t, func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusRequestEntityTooLarge) })
	results, err = writer.Write(context.Background(), actions(2))
	require.NoError(t, err)
	for _, r := range results {
		require.Equal(t, elastic.BulkRejected, r.Outcome)
	}
}

func TestBulkWriterReportsAnOutage(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusServiceUnavailable, http.StatusForbidden, http.StatusInternalServerError} {
		writer := answerWith(t, func(w http.ResponseWriter, n int) { answer(w, n, status) })
		_, err := writer.Write(context.Background(), actions(1))
		require.ErrorIs(t, err, elastic.ErrUnavailable)
		writer = answerWith(t, func(w http.ResponseWriter, _ int) { w.WriteHeader(status) })
		_, err = writer.Write(context.Background(), actions(1))
		require.ErrorIs(t, err, elastic.ErrUnavailable)
	}
}
