package elastic_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/elastic"
)

func TestTheClientTrustsItsCAAlone(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Elastic-Product", "Elasticsearch")
	}))
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	client, err := elastic.NewClient(elastic.Config{URLs: []string{server.URL}, CA: ca})
	require.NoError(t, err)
	require.NoError(t, elastic.Ping(t.Context(), client, "alias"))

	client, err = elastic.NewClient(elastic.Config{URLs: []string{server.URL}})
	require.NoError(t, err)
	require.ErrorContains(t, elastic.Ping(t.Context(), client, "alias"), "certificate")

	_, err = elastic.NewClient(elastic.Config{URLs: []string{server.URL}, CA: []byte("no certificate")})
	require.Error(t, err)
}

func TestTheClientFindsACloudDeployment(t *testing.T) {
	t.Parallel()
	_, err := elastic.NewClient(elastic.Config{CloudID: "name:aG9zdC5leGFtcGxlJGVzLXV1aWQka2liYW5h"})
	require.NoError(t, err)
	_, err = elastic.NewClient(elastic.Config{CloudID: "not a cloud ID"})
	require.Error(t, err)
}
