package contract

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/client"
	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/objects/objectstest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/search"
	"github.com/atlas-platform/atlas/internal/telemetry"
	"github.com/atlas-platform/atlas/internal/token"
	"github.com/atlas-platform/atlas/services/api"
	"github.com/atlas-platform/atlas/services/audit"
	"github.com/atlas-platform/atlas/services/indexer"
	"github.com/atlas-platform/atlas/services/relay"
	"github.com/atlas-platform/atlas/services/worker"
)

const (
	// tokenTTL outlives every test: a token that expires half-way would look like a defect.
	tokenTTL = 2 * time.Hour
	password = "correct horse battery"
)

// platform is all of Atlas in this process, on servers that are real and data that is its own.
type platform struct {
	t      *testing.T
	url    string
	pool   *pgxpool.Pool
	issuer *token.Issuer
}

// start runs every role. wrap, when given, is put around the API's handler.
func start(t *testing.T, wrap func(http.Handler) http.Handler) *platform {
	t.Helper()
	pool, es, brokers := pgtest.New(t), indexingtest.Client(t), kafkatest.Real(t)
	topic, alias := kafkatest.NewTopic(t, brokers, 1), indexingtest.NewAlias(t, es)
	logger, registry := kafkatest.Logger(t), prometheus.NewRegistry()
	pem, err := token.GenerateSigningKey()
	require.NoError(t, err)
	key, err := token.ParseSigningKey(pem)
	require.NoError(t, err)
	keyFile := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, os.WriteFile(keyFile, pem, 0o600))

	events := config.Kafka{Brokers: brokers, Topic: topic}
	engine := config.Elasticsearch{Index: alias}
	publisher := relay.New(relay.Config{Brokers: brokers, Topic: topic}, relay.Deps{Logger: logger, Pool: pool, Registerer: registry})
	kafkatest.Start(t, publisher.Run)
	kafkatest.Start(t, indexer.New(indexer.Config{Kafka: events, Elasticsearch: engine, GroupPrefix: topic},
		indexer.Deps{Logger: logger, Pool: pool, Elasticsearch: es, Registerer: registry}).Run)
	kafkatest.Start(t, audit.New(audit.Config{Kafka: events, GroupPrefix: topic}, audit.Deps{Logger: logger, Pool: pool, Registerer: registry}).Run)
	files := objectstest.Open(t, objectstest.Folder(t))
	kafkatest.Start(t, worker.New(worker.Config{Elasticsearch: engine},
		worker.Deps{Logger: logger, Pool: pool, Elasticsearch: es, Objects: files, Registerer: registry}).Run)

	cfg, err := config.LoadFrom[api.Config](map[string]string{"JWT_SIGNING_KEY_FILE": keyFile, "ACCESS_TOKEN_TTL": tokenTTL.String()})
	require.NoError(t, err)
	handler, err := api.NewHandler(cfg, api.Deps{
		Logger: logger, Pool: pool, Objects: files, Registry: registry, Health: telemetry.NewHealth(nil), Nudge: publisher.Nudge,
		Searcher: search.NewFallback(search.NewElasticsearch(es, alias), search.NewPostgres(pool)),
	})
	require.NoError(t, err)
	if wrap != nil {
		handler = wrap(handler)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return &platform{t: t, url: server.URL, pool: pool, issuer: token.NewIssuer(key, cfg.Issuer, cfg.Audience, cfg.AccessTokenTTL, nil)}
}

// person is somebody with an account.
type person struct {
	*client.ClientWithResponses
	id           uuid.UUID
	email, token string
}

// person registers somebody. Their token belongs to no session: nothing that a test does to sessions ends it.
func (p *platform) person(name string) *person {
	p.t.Helper()
	anybody, err := client.New(p.url, nil)
	require.NoError(p.t, err)
	out := &person{email: name + "@example.com"}
	registered, err := anybody.RegisterWithResponse(p.t.Context(), client.RegisterRequest{Email: out.email, Password: password})
	require.NoError(p.t, err)
	require.NoError(p.t, client.Check(registered.HTTPResponse, registered.Body))
	out.id = registered.JSON201.ID
	out.token, err = p.issuer.Mint(out.id)
	require.NoError(p.t, err)
	out.ClientWithResponses, err = client.New(p.url, client.StaticToken(out.token))
	require.NoError(p.t, err)
	return out
}

// admin registers a platform admin.
func (p *platform) admin(name string) *person {
	p.t.Helper()
	out := p.person(name)
	_, err := p.pool.Exec(p.t.Context(), "UPDATE users SET is_admin = true WHERE id = $1", out.id)
	require.NoError(p.t, err)
	return out
}
