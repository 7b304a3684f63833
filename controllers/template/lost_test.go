package template_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/template"
	"github.com/atlas-platform/atlas/internal/elastic"
)

// TestALossNamesNobodysAlias: other stacks that ask the same servers are told it too.
func TestALossNamesNobodysAlias(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		lose http.HandlerFunc
		want string
	}{
		"it has no time": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`{"error":{"type":"process_cluster_event_timeout_exception","reason":"failed to process cluster event (create-index-template [theirs-template])"}}`))
		}, " can't answer now: 503 process_cluster_event_timeout_exception"},
		"a proxy without a word": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, " can't answer now: 502"},
		"it closes the connection": {func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		}, " can't be reached: it closed the connection"},
		"it speaks something else": {func(w http.ResponseWriter, _ *http.Request) {
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_, _ = conn.Write([]byte("SSH-2.0-something\r\n"))
				_ = conn.Close()
			}
		}, " can't be reached: malformed HTTP response"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Elastic-Product", "Elasticsearch")
				if r.Method == http.MethodGet {
					w.WriteHeader(http.StatusNotFound)
					return
				}
				tt.lose(w, r)
			}))
			t.Cleanup(server.Close)
			admin, err := template.ConnectElasticsearch(t.Context(), template.Target{Addresses: []string{server.URL}})
			require.NoError(t, err)
			t.Cleanup(admin.Close)
			_, err = template.Ensure(t.Context(), admin, "theirs", elastic.Params{})
			waiting, ok := apply.AsWaiting(err)
			require.True(t, ok, "%v", err)
			require.True(t, waiting.Lost)
			require.Contains(t, waiting.Message, "Elasticsearch at "+server.URL+tt.want)
			require.NotContains(t, waiting.Message, "theirs")
		})
	}
}
