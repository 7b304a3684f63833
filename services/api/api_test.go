package api_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/objects/objectstest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/search"
	"github.com/atlas-platform/atlas/internal/telemetry"
	"github.com/atlas-platform/atlas/internal/token"
	"github.com/atlas-platform/atlas/services/api"
)

const (
	testPassword   = "correct horse battery"
	trashRetention = 720 * time.Hour
)

// testBundle is one API over a database of its own.
type testBundle struct {
	t        *testing.T
	pool     *pgxpool.Pool
	server   *httptest.Server
	key      ed25519.PrivateKey
	issuer   *token.Issuer
	registry *prometheus.Registry
	health   *telemetry.Health
	objects  objects.Store
	nudges   atomic.Int64
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	return setupWith(t, nil, nil)
}

// setupWith makes an API with other parts than setup's; nil means the same.
func setupWith(t *testing.T, pool *pgxpool.Pool, searcher api.Searcher, configure ...func(*api.Config)) *testBundle {
	t.Helper()
	return setupDeps(t, pool, searcher, nil, configure...)
}

// setupDeps is setupWith with a last word about the parts.
func setupDeps(t *testing.T, pool *pgxpool.Pool, searcher api.Searcher, change func(*api.Deps), configure ...func(*api.Config)) *testBundle {
	t.Helper()
	if pool == nil {
		pool = pgtest.New(t)
	}
	if searcher == nil {
		searcher = search.NewPostgres(pool)
	}
	b := &testBundle{t: t, pool: pool, registry: prometheus.NewRegistry(), health: telemetry.NewHealth(nil)}
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	cfg := api.Config{
		Issuer: "atlas", Audience: "atlas-api", AccessTokenTTL: 15 * time.Minute, RefreshTTL: time.Hour,
		Trash: config.Trash{Retention: trashRetention},
	}
	for _, configure := range configure {
		configure(&cfg)
	}
	deps := api.Deps{
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})), Pool: b.pool,
		Searcher: searcher, Registry: b.registry, Health: b.health, SigningKey: key,
		Nudge: func() { b.nudges.Add(1) }, Objects: objectstest.Open(t, objectstest.Folder(t)),
	}
	if change != nil {
		change(&deps)
	}
	b.key, b.objects = deps.SigningKey, deps.Objects
	b.issuer = token.NewIssuer(b.key, cfg.Issuer, cfg.Audience, cfg.AccessTokenTTL, nil)
	handler, err := api.NewHandler(cfg, deps)
	require.NoError(t, err)
	b.server = httptest.NewServer(handler)
	t.Cleanup(b.server.Close)
	return b
}

// answer is what came back.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	raw    []byte
	body   map[string]any
}

type option func(*http.Request)

func header(name, value string) option { return func(r *http.Request) { r.Header.Set(name, value) } }

// isJSON tells JSON and problems from NDJSON.
func isJSON(mediaType string) bool {
	return strings.HasSuffix(mediaType, "/json") || strings.HasSuffix(mediaType, "+json")
}

// call sends a request: body is nil, raw bytes or a string, or anything to send as JSON.
func (b *testBundle) call(user *account, method, path string, body any, options ...option) answer {
	b.t.Helper()
	var reader io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(body)
	default:
		content, err := json.Marshal(body)
		require.NoError(b.t, err)
		reader = bytes.NewReader(content)
	}
	request, err := http.NewRequestWithContext(b.t.Context(), method, b.server.URL+path, reader)
	require.NoError(b.t, err)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if user != nil {
		request.Header.Set("Authorization", "Bearer "+user.token)
	}
	for _, option := range options {
		option(request)
	}
	response, err := b.server.Client().Do(request)
	require.NoError(b.t, err)
	defer response.Body.Close()
	a := answer{t: b.t, status: response.StatusCode, header: response.Header}
	a.raw, err = io.ReadAll(response.Body)
	require.NoError(b.t, err)
	if method != http.MethodHead && isJSON(response.Header.Get("Content-Type")) {
		require.NoError(b.t, json.Unmarshal(a.raw, &a.body), string(a.raw))
	}
	b.conforms(request, a)
	return a
}

// specification is the router over the API's own description, read once for all tests.
var specification = sync.OnceValues(func() (routers.Router, error) {
	document, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	openapi3filter.RegisterBodyDecoder("application/x-ndjson", openapi3filter.FileBodyDecoder)
	openapi3filter.RegisterBodyDecoder("application/zip", openapi3filter.FileBodyDecoder)
	openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.FileBodyDecoder)
	document.Servers = nil // the router takes the slash of "/" away from every path
	return legacy.NewRouter(document)
})

// conforms checks every answer of every test against the specification: status, media type, headers and body.
func (b *testBundle) conforms(request *http.Request, a answer) {
	b.t.Helper()
	router, err := specification()
	require.NoError(b.t, err)
	head := request.Method == http.MethodHead
	if head { // it is GET's operation, without the body
		request = request.Clone(b.t.Context())
		request.Method = http.MethodGet
	}
	route, params, err := router.FindRoute(request)
	if err != nil {
		// Not an operation: probes, the reference, paths and methods that do not exist.
		require.True(b.t, a.status == 404 || a.status == 405 || request.Method == http.MethodOptions || !strings.HasPrefix(request.URL.Path, "/v1/"), "%s is not described", request.URL)
		return
	}
	err = openapi3filter.ValidateResponse(b.t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: request, PathParams: params, Route: route},
		Status:                 a.status, Header: a.header, Body: io.NopCloser(bytes.NewReader(a.raw)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true, ExcludeResponseBody: head},
	})
	require.NoError(b.t, err, "%s %s does not answer as the specification says", request.Method, request.URL)
}

func (a answer) is(status int) answer {
	a.t.Helper()
	require.Equal(a.t, status, a.status, string(a.raw))
	if status >= 400 {
		require.Equal(a.t, "application/problem+json", a.header.Get("Content-Type"))
		require.Regexp(a.t, `^urn:atlas:problem:[a-z-]+$`, a.body["type"])
		require.NotEmpty(a.t, a.body["title"])
		require.InDelta(a.t, status, a.body["status"], 0)
		require.NotEmpty(a.t, a.body["trace_id"])
	}
	return a
}

// problem checks the problem's kind and the places that it names.
func (a answer) problem(status int, kind string, places ...string) answer {
	a.t.Helper()
	a.is(status)
	require.Equal(a.t, "urn:atlas:problem:"+kind, a.body["type"], string(a.raw))
	if len(places) > 0 {
		require.ElementsMatch(a.t, places, a.places(), string(a.raw))
	}
	return a
}

func (a answer) places() []string {
	var out []string
	errors, _ := a.body["errors"].([]any)
	for _, e := range errors {
		field := e.(map[string]any)
		place, ok := field["pointer"]
		if !ok {
			place = field["parameter"]
		}
		out = append(out, fmt.Sprint(place))
	}
	return out
}

func (a answer) id() string { return a.body["id"].(string) }

func (a answer) items() []map[string]any {
	a.t.Helper()
	list, ok := a.body["items"].([]any)
	require.True(a.t, ok, string(a.raw))
	out := make([]map[string]any, len(list))
	for i, item := range list {
		out[i] = item.(map[string]any)
	}
	return out
}

// account is a user who has logged in.
type account struct{ id, email, token string }

// account makes a user straight in the database: registering costs an argon2id hash, which only the tests of it should pay.
func (b *testBundle) account(name string) *account {
	b.t.Helper()
	id := uuid.Must(uuid.NewV7())
	email := name + "@example.com"
	_, err := b.pool.Exec(b.t.Context(), "INSERT INTO users (id, email, display_name, password_hash) VALUES ($1, $2, $3, 'none')", id, email, name)
	require.NoError(b.t, err)
	access, err := b.issuer.Mint(id)
	require.NoError(b.t, err)
	return &account{id: id.String(), email: email, token: access}
}

func (b *testBundle) admin(name string) *account {
	b.t.Helper()
	a := b.account(name)
	_, err := b.pool.Exec(b.t.Context(), "UPDATE users SET is_admin = true WHERE id = $1", a.id)
	require.NoError(b.t, err)
	return a
}

func (b *testBundle) operator() *account {
	b.t.Helper()
	access, err := b.issuer.MintService(token.OperatorSubject, time.Hour)
	require.NoError(b.t, err)
	return &account{token: access}
}

func (b *testBundle) collection(owner *account, name string) string {
	b.t.Helper()
	return b.call(owner, "POST", "/v1/collections", map[string]any{"name": name}).is(201).id()
}

func (b *testBundle) member(owner *account, collection string, member *account, role string) {
	b.t.Helper()
	b.call(owner, "POST", "/v1/collections/"+collection+"/members", map[string]any{"email": member.email, "role": role}).is(201)
}

func (b *testBundle) item(user *account, collection, title string, tags ...string) string {
	b.t.Helper()
	body := map[string]any{"collection_id": collection, "title": title, "content": "about " + title, "tags": tags}
	if tags == nil {
		delete(body, "tags")
	}
	return b.call(user, "POST", "/v1/items", body).is(201).id()
}

// envelopes returns the outbox in order, each checked against the contract.
func (b *testBundle) envelopes() []event.Envelope {
	b.t.Helper()
	rows, err := b.pool.Query(context.Background(), "SELECT aggregate_id, payload FROM outbox ORDER BY id")
	require.NoError(b.t, err)
	defer rows.Close()
	var out []event.Envelope
	for rows.Next() {
		var aggregate uuid.UUID
		var payload []byte
		require.NoError(b.t, rows.Scan(&aggregate, &payload))
		require.NoError(b.t, event.Validate(payload), string(payload))
		envelope, err := event.Decode(payload)
		require.NoError(b.t, err)
		require.Equal(b.t, aggregate, envelope.Entity.ID)
		out = append(out, envelope)
	}
	require.NoError(b.t, rows.Err())
	return out
}
