package api_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/client"
	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/search"
	"github.com/atlas-platform/atlas/internal/telemetry"
	"github.com/atlas-platform/atlas/services/api"
)

// slowSearch holds a request until it is released, and tells when one has come.
type slowSearch struct {
	api.Searcher
	arrived chan struct{}
	release chan struct{}
}

func (s slowSearch) Search(ctx context.Context, _ search.Query) (search.Page, error) {
	close(s.arrived)
	select {
	case <-s.release:
		return search.Page{}, nil
	case <-ctx.Done():
		return search.Page{}, ctx.Err()
	}
}

// TestRunDrains stops the API in the middle of a request: it becomes not ready, finishes the request and returns.
func TestRunDrains(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	searcher := slowSearch{arrived: make(chan struct{}), release: make(chan struct{})}
	health := telemetry.NewHealth(map[string]telemetry.Check{"postgres": pool.Ping})
	addresses := make(chan string, 1)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- api.Run(ctx, api.Config{ListenAddr: "127.0.0.1:0", Issuer: "i", Audience: "a", AccessTokenTTL: time.Minute, RefreshTTL: time.Hour}, api.Deps{
			Logger: slog.New(slog.DiscardHandler), Pool: pool, Searcher: searcher, Registry: prometheus.NewRegistry(), Health: health,
			SigningKey: key, ShutdownTimeout: 10 * time.Second, Listening: func(address string) { addresses <- address },
		})
	}()
	base := "http://" + <-addresses
	c := loggedIn(t, base)
	created, err := c.CreateCollectionWithResponse(t.Context(), nil, client.CollectionCreate{Name: "c"})
	require.NoError(t, err)
	require.NoError(t, client.Check(created.HTTPResponse, created.Body))
	require.Equal(t, http.StatusOK, get(t, base+"/readyz"))

	searched := make(chan int, 1)
	go func() {
		answer, err := c.SearchWithResponse(context.WithoutCancel(t.Context()), &client.SearchParams{})
		if err != nil {
			searched <- -1
			return
		}
		searched <- answer.StatusCode()
	}()
	<-searcher.arrived
	stop()
	require.Eventually(t, func() bool {
		_, err := (&http.Client{Timeout: time.Second}).Get(base + "/livez")
		return err != nil
	}, time.Minute, 5*time.Millisecond, "no new connections while draining")
	close(searcher.release)
	require.Equal(t, http.StatusOK, <-searched)
	require.NoError(t, <-done)
}

func TestRunNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, os.WriteFile(path, []byte("nothing"), 0o600))
	err := api.Run(t.Context(), api.Config{SigningKeyFile: path}, api.Deps{})
	require.ErrorContains(t, err, "JWT_SIGNING_KEY_FILE")

	_, err = config.LoadFrom[api.Config](map[string]string{"LISTEN_ADDR": "nowhere", "ACCESS_TOKEN_TTL": "0s", "JWT_SIGNING_KEY_FILE": "k"})
	require.ErrorContains(t, err, "LISTEN_ADDR")
	require.ErrorContains(t, err, "ACCESS_TOKEN_TTL")
	_, err = config.LoadFrom[api.Config](nil)
	require.ErrorContains(t, err, "JWT_SIGNING_KEY_FILE")
}

// TestDatabaseAway asks an API whose database can't be reached.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	b.pool.Close()
	b.call(ada, "GET", "/v1/me", nil).is(500)
	require.Equal(t, 200, b.call(nil, "GET", "/livez", nil).status)

	pool, err := postgres.Open(t.Context(), "postgres://nobody@127.0.0.1:1/none", 2)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	other := setupWith(t, pool, search.NewPostgres(pool))
	access, err := other.issuer.Mint(uuid.New())
	require.NoError(t, err)
	a := other.call(&account{token: access}, "GET", "/v1/me", nil).problem(503, "unavailable")
	require.NotEmpty(t, a.header.Get("Retry-After"))
}

type brokenSearch struct {
	api.Searcher
	err error
}

func (s brokenSearch) Search(context.Context, search.Query) (search.Page, error) {
	if s.err == nil {
		panic("a searcher that panics")
	}
	return search.Page{}, s.err
}

func TestSearchFailures(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err    error
		status int
		kind   string
	}{
		"unavailable": {search.ErrUnavailable, 503, "unavailable"},
		"timeout":     {context.DeadlineExceeded, 503, "unavailable"},
		"cursor":      {search.ErrCursor, 400, "invalid-request"},
		"query":       {search.ErrQuery, 400, "invalid-request"},
		"unknown":     {errors.New("secret detail"), 500, "internal"},
		"panic":       {nil, 500, "internal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupWith(t, pgtest.New(t), brokenSearch{err: tt.err})
			ada := b.account("ada")
			b.collection(ada, "c")
			a := b.call(ada, "GET", "/v1/search", nil).problem(tt.status, tt.kind)
			require.NotContains(t, string(a.raw), "secret detail")
			require.NotContains(t, string(a.raw), "panics")
			require.Equal(t, 200, b.call(ada, "GET", "/v1/me", nil).status)
		})
	}
}

func TestMetricsHaveBoundedLabels(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	for range 3 {
		b.call(ada, "GET", "/v1/items/"+uuid.NewString(), nil).is(404)
		b.call(nil, "GET", "/"+uuid.NewString(), nil).is(404)
		b.call(nil, "X"+uuid.NewString()[:4], "/v1/me", nil).is(405)
	}
	count, err := testutil.GatherAndCount(b.registry, "atlas_http_requests_total")
	require.NoError(t, err)
	require.Equal(t, 3, count)
	require.Equal(t, 404, b.call(nil, "GET", "/metrics", nil).status, "metrics have a port of their own")
}

func loggedIn(t *testing.T, base string) *client.ClientWithResponses {
	t.Helper()
	anonymous, err := client.New(base, nil)
	require.NoError(t, err)
	_, err = anonymous.RegisterWithResponse(t.Context(), client.RegisterRequest{Email: "ada@example.com", Password: testPassword})
	require.NoError(t, err)
	login, err := anonymous.LoginWithResponse(t.Context(), client.LoginRequest{Email: "ada@example.com", Password: testPassword})
	require.NoError(t, err)
	require.NoError(t, client.Check(login.HTTPResponse, login.Body))
	c, err := client.New(base, client.StaticToken(login.JSON200.AccessToken))
	require.NoError(t, err)
	return c
}

func get(t *testing.T, url string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(t, err)
	return response.StatusCode
}
