// Package pipeline tests what only the whole of Atlas can show: every role in this process, on servers that are real and data that is its own.
package pipeline

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/elastic/go-elasticsearch/v8"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/client"
	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
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
	patience   = time.Minute
	partitions = 3
)

// platform is a running Atlas.
type platform struct {
	t      *testing.T
	url    string
	pool   *pgxpool.Pool
	es     *elasticsearch.Client
	events config.Kafka
	alias  string
	logs   *logs
	logger *slog.Logger
	issuer *token.Issuer

	stopIndexer, stopAudit func()
}

// logs keeps what the roles log.
type logs struct {
	mu    sync.Mutex
	lines []map[string]any
}

func (l *logs) Write(b []byte) (int, error) {
	var line map[string]any
	if err := json.Unmarshal(b, &line); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	return len(b), nil
}

// find returns the first line with the message for which fits is true.
func (l *logs) find(message string, fits func(line map[string]any) bool) map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if line["msg"] == message && fits(line) {
			return line
		}
	}
	return nil
}

func start(t *testing.T) *platform {
	t.Helper()
	pool, es, brokers := pgtest.New(t), indexingtest.Client(t), kafkatest.Real(t)
	p := &platform{
		t: t, pool: pool, es: es, events: config.Kafka{Brokers: brokers, Topic: kafkatest.NewTopic(t, brokers, partitions)},
		alias: indexingtest.NewAlias(t, es), logs: &logs{},
	}
	p.logger = telemetry.NewLogger(p.logs, "debug", "json")
	pem, err := token.GenerateSigningKey()
	require.NoError(t, err)
	key, err := token.ParseSigningKey(pem)
	require.NoError(t, err)
	keyFile := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, os.WriteFile(keyFile, pem, 0o600))

	publisher := relay.New(
		relay.Config{Brokers: brokers, Topic: p.events.Topic, Retention: time.Hour}, // what is written can be looked at
		relay.Deps{Logger: p.logger, Pool: pool, Registerer: prometheus.NewRegistry()})
	kafkatest.Start(t, publisher.Run)
	kafkatest.Start(t, worker.New(worker.Config{Elasticsearch: config.Elasticsearch{Index: p.alias}},
		worker.Deps{Logger: p.logger, Pool: pool, Elasticsearch: es, Registerer: prometheus.NewRegistry()}).Run)
	p.startIndexer(p.alias)
	p.startAudit(pool)

	cfg, err := config.LoadFrom[api.Config](map[string]string{"JWT_SIGNING_KEY_FILE": keyFile})
	require.NoError(t, err)
	handler, err := api.NewHandler(cfg, api.Deps{
		Logger: p.logger, Pool: pool, Registry: prometheus.NewRegistry(), Health: telemetry.NewHealth(nil), Nudge: publisher.Nudge,
		Searcher: search.NewFallback(search.NewElasticsearch(es, p.alias), search.NewPostgres(pool)),
	})
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	p.url, p.issuer = server.URL, token.NewIssuer(key, cfg.Issuer, cfg.Audience, cfg.AccessTokenTTL, nil)
	return p
}

func (p *platform) startIndexer(alias string) {
	p.t.Helper()
	p.stopIndexer = kafkatest.Start(p.t, indexer.New(
		indexer.Config{Kafka: p.events, Elasticsearch: config.Elasticsearch{Index: alias}, GroupPrefix: p.events.Topic},
		indexer.Deps{Logger: p.logger, Pool: p.pool, Elasticsearch: p.es, Registerer: prometheus.NewRegistry()}).Run)
}

func (p *platform) startAudit(trail *pgxpool.Pool) {
	p.t.Helper()
	p.stopAudit = kafkatest.Start(p.t, audit.New(audit.Config{Kafka: p.events, GroupPrefix: p.events.Topic},
		audit.Deps{Logger: p.logger, Pool: trail, Registerer: prometheus.NewRegistry()}).Run)
}

// person is somebody with an account.
type person struct {
	id, email, token string
}

func (p *platform) person(name string) *person {
	p.t.Helper()
	anybody, err := client.New(p.url, nil)
	require.NoError(p.t, err)
	out := &person{email: name + "@example.com"}
	registered, err := anybody.RegisterWithResponse(p.t.Context(), client.RegisterRequest{Email: out.email, Password: "correct horse battery"})
	require.NoError(p.t, err)
	require.NoError(p.t, client.Check(registered.HTTPResponse, registered.Body))
	out.id = registered.JSON201.ID.String()
	out.token, err = p.issuer.Mint(registered.JSON201.ID)
	require.NoError(p.t, err)
	return out
}

type object map[string]any

// call sends a request as somebody and returns the status and the answer.
func (p *platform) call(who *person, method, path string, body any, headers ...string) (int, object) {
	p.t.Helper()
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		require.NoError(p.t, err)
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, content)
	require.NoError(p.t, err)
	req.Header.Set("Authorization", "Bearer "+who.token)
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	} else if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	defer func() { _ = res.Body.Close() }()
	var answer object
	if raw, err := io.ReadAll(res.Body); strings.Contains(res.Header.Get("Content-Type"), "json") {
		require.NoError(p.t, err)
		require.NoError(p.t, json.Unmarshal(raw, &answer))
	}
	return res.StatusCode, answer
}

// must is call for a request that succeeds; it returns the id in the answer.
func (p *platform) must(who *person, method, path string, body any, headers ...string) string {
	p.t.Helper()
	status, answer := p.call(who, method, path, body, headers...)
	require.Less(p.t, status, 300, "%s %s: %v", method, path, answer)
	id, _ := answer["id"].(string)
	return id
}

func (p *platform) count(pool *pgxpool.Pool, query string, args ...any) (n int64) {
	p.t.Helper()
	require.NoError(p.t, pool.QueryRow(p.t.Context(), query, args...).Scan(&n))
	return n
}

// settled waits until nothing is under way: no job, no unpublished event, and both groups are at the topic's end.
func (p *platform) settled() {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		if p.count(p.pool, "SELECT count(*) FROM jobs WHERE state IN ('QUEUED', 'RUNNING')") > 0 {
			return false
		}
		written := p.count(p.pool, "SELECT count(*) FROM outbox")
		if p.count(p.pool, "SELECT count(*) FROM outbox WHERE published_at IS NOT NULL") < written {
			return false
		}
		for _, group := range []string{"-indexer", "-audit"} {
			var done int64
			for partition := range int32(partitions) {
				done += max(kafkatest.Committed(p.t, p.events.Brokers, p.events.Topic+group, p.events.Topic, partition), 0)
			}
			if done < written {
				return false
			}
		}
		return true
	}, patience, 50*time.Millisecond)
}

// documents are all documents of an index with their versions.
func (p *platform) documents(alias string) map[uuid.UUID]indexingtest.Stored {
	p.t.Helper()
	indexingtest.Refresh(p.t, p.es, alias)
	res, err := p.es.Search(p.es.Search.WithIndex(alias), p.es.Search.WithSize(10_000), p.es.Search.WithVersion(true))
	require.NoError(p.t, err)
	defer func() { _ = res.Body.Close() }()
	var answer struct {
		Hits struct {
			Hits []struct {
				ID uuid.UUID `json:"_id"`
				indexingtest.Stored
			} `json:"hits"`
		} `json:"hits"`
	}
	require.NoError(p.t, json.NewDecoder(res.Body).Decode(&answer))
	out := map[uuid.UUID]indexingtest.Stored{}
	for _, hit := range answer.Hits.Hits {
		out[hit.ID] = hit.Stored
	}
	return out
}
