package template_test

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/template"
	"github.com/atlas-platform/atlas/internal/elastic"
)

const wayOut = ": check spec.elasticsearch.addresses, and that network policies and firewalls let the operator through"

// TestAnotherSchemeThanTheServersIsTold, with the way out.
func TestAnotherSchemeThanTheServersIsTold(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	// As Elasticsearch does with a request that is not TLS.
	closing, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = closing.Close() })
	go func() {
		for conn, err := closing.Accept(); err == nil; conn, err = closing.Accept() {
			_, _ = io.ReadAtLeast(conn, make([]byte, 4096), 1)
			_ = conn.Close()
		}
	}()
	for address, want := range map[string]string{
		"https://" + plain.Listener.Addr().String():  "it does not speak TLS: write http:// in spec.elasticsearch.addresses",
		"https://" + secure.Listener.Addr().String(): "its certificate is of an unknown authority: name the one that signed it in spec.elasticsearch.caFrom",
		"http://" + closing.Addr().String():          "it closed the connection: if it wants TLS, write https:// in spec.elasticsearch.addresses",
	} {
		admin, err := template.ConnectElasticsearch(t.Context(), template.Target{Addresses: []string{address}})
		require.NoError(t, err)
		t.Cleanup(admin.Close)
		_, err = template.Ensure(t.Context(), admin, "items", elastic.Params{})
		waiting, ok := apply.AsWaiting(err)
		require.True(t, ok, "%v", err)
		require.True(t, waiting.Lost)
		require.Contains(t, waiting.Message, "Elasticsearch at "+address+" can't be reached: "+want)
	}
}
