// Package indexingtest gives tests an index of their own on the real Elasticsearch, and items to put there.
package indexingtest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/elastic/go-elasticsearch/v8"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/testenv"
)

const timeout = time.Minute

// Client connects to the Elasticsearch that ELASTICSEARCH_URL names.
func Client(t testing.TB) *elasticsearch.Client {
	t.Helper()
	client, err := elastic.NewClient(elastic.Config{URLs: URLs(t)})
	require.NoError(t, err)
	return client
}

// URLs returns the addresses that ELASTICSEARCH_URL names.
func URLs(t testing.TB) []string {
	t.Helper()
	return strings.Split(testenv.Require(t, testenv.ElasticsearchURL), ",")
}

// NewAlias makes an empty index of items behind a unique alias, both dropped with the test.
func NewAlias(t testing.TB, es *elasticsearch.Client) string {
	t.Helper()
	alias := "test-" + uuid.NewString()
	ctx, cancel := limited(t)
	defer cancel()
	require.NoError(t, elastic.EnsureIndex(ctx, es, alias, elastic.Params{RefreshInterval: 200 * time.Millisecond}))
	DropWith(t, es, alias)
	return alias
}

// DropWith drops the alias's indices and template with the test.
func DropWith(t testing.TB, es *elasticsearch.Client, alias string) {
	t.Helper()
	t.Cleanup(func() { drop(t, es, alias) })
}

func drop(t testing.TB, es *elasticsearch.Client, alias string) {
	t.Helper()
	DropIndices(t, es, alias)
	do(t, es, http.MethodDelete, "/_index_template/"+elastic.TemplateName(alias))
}

// Replace puts another index behind the alias, as somebody might who works on Elasticsearch by hand.
func Replace(t testing.TB, es *elasticsearch.Client, alias string, body map[string]any) {
	t.Helper()
	ReplaceWith(t, es, alias, alias+"-byhand-1", body)
}

// ReplaceWith is Replace by an index of this name.
func ReplaceWith(t testing.TB, es *elasticsearch.Client, alias, name string, body map[string]any) {
	t.Helper()
	DropIndices(t, es, alias)
	body["aliases"] = map[string]any{alias: map[string]any{"is_write_index": true}}
	raw, err := json.Marshal(body)
	require.NoError(t, err)
	res, err := es.Indices.Create(name, es.Indices.Create.WithBody(bytes.NewReader(raw)))
	require.NoError(t, err)
	require.False(t, res.IsError(), res.String())
	_ = res.Body.Close()
}

// DropIndices deletes what is behind the alias, and with it the alias.
func DropIndices(t testing.TB, es *elasticsearch.Client, alias string) {
	t.Helper()
	ctx, cancel := limited(t)
	defer cancel()
	state, err := elastic.ObserveIndex(ctx, es, alias)
	require.NoError(t, err)
	for _, name := range slices.Concat(state.Foreign, slices.Collect(maps.Keys(state.Indices))) {
		do(t, es, http.MethodDelete, "/"+name)
	}
}

// limited returns a context that outlives the test's own, for its cleanup.
func limited(t testing.TB) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(context.WithoutCancel(t.Context()), timeout)
}

// Refresh makes everything that was written to the alias visible to search.
func Refresh(t testing.TB, es *elasticsearch.Client, alias string) {
	t.Helper()
	do(t, es, http.MethodPost, "/"+alias+"/_refresh")
}

// Merge makes one segment of what is behind the alias, without what was deleted or replaced.
func Merge(t testing.TB, es *elasticsearch.Client, alias string) {
	t.Helper()
	var merge struct {
		Task string `json:"task"`
	}
	// Elasticsearch merges one index at a time, and other tests' may be large.
	require.NoError(t, json.Unmarshal(do(t, es, http.MethodPost, "/"+alias+"/_forcemerge?max_num_segments=1&wait_for_completion=false"), &merge))
	require.Eventually(t, func() bool {
		var state struct {
			Completed bool `json:"completed"`
		}
		return json.Unmarshal(do(t, es, http.MethodGet, "/_tasks/"+merge.Task), &state) == nil && state.Completed
	}, 5*time.Minute, 100*time.Millisecond)
	Refresh(t, es, alias)
}

func do(t testing.TB, es *elasticsearch.Client, method, path string) []byte {
	t.Helper()
	ctx, cancel := limited(t)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, path, nil)
	require.NoError(t, err)
	res, err := es.Perform(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	require.Less(t, res.StatusCode, 300, "%s %s", method, path)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return body
}

// Stored is a document as the index has it now.
type Stored struct {
	Found   bool           `json:"found"`
	Version int64          `json:"_version"`
	Source  map[string]any `json:"_source"`
}

// Get reads one document, refreshed or not.
func Get(t testing.TB, es *elasticsearch.Client, alias string, id uuid.UUID) Stored {
	t.Helper()
	res, err := es.Get(alias, id.String())
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	var stored Stored
	require.NoError(t, json.NewDecoder(res.Body).Decode(&stored))
	return stored
}

// Seed writes rows straight into the tables: the API is not part of these tests.
type Seed struct {
	Pool *pgxpool.Pool
	User uuid.UUID
}

// NewSeed makes a user to own what follows.
func NewSeed(t testing.TB, pool *pgxpool.Pool) *Seed {
	t.Helper()
	s := &Seed{Pool: pool, User: uuid.Must(uuid.NewV7())}
	s.Exec(t, "INSERT INTO users (id, email, password_hash) VALUES ($1, $2, 'x')", s.User, s.User.String()+"@example.com")
	return s
}

// Exec runs a statement that has to succeed.
func (s *Seed) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	_, err := s.Pool.Exec(context.Background(), sql, args...)
	require.NoError(t, err)
}

// Collection makes a collection.
func (s *Seed) Collection(t testing.TB) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	s.Exec(t, "INSERT INTO collections (id, name, created_by) VALUES ($1, 'c', $2)", id, s.User)
	return id
}

// Item makes an item.
func (s *Seed) Item(t testing.TB, collection uuid.UUID, title, content string, tags ...string) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	s.Exec(t, "INSERT INTO items (id, collection_id, title, content, created_by, updated_by) VALUES ($1, $2, $3, $4, $5, $5)",
		id, collection, title, content, s.User)
	for _, tag := range tags {
		s.Exec(t, `WITH t AS (INSERT INTO tags (id, collection_id, name) VALUES ($1, $2, $3)
			ON CONFLICT (collection_id, name) DO UPDATE SET name = excluded.name RETURNING id)
			INSERT INTO item_tags (item_id, tag_id) SELECT $4, id FROM t`, uuid.Must(uuid.NewV7()), collection, tag, id)
	}
	return id
}

// Update gives an item a new title and the next version.
func (s *Seed) Update(t testing.TB, item uuid.UUID, title string) {
	t.Helper()
	s.Exec(t, "UPDATE items SET title = $2, version = version + 1, updated_at = now() WHERE id = $1", item, title)
}

// Delete deletes an item softly.
func (s *Seed) Delete(t testing.TB, item uuid.UUID) {
	t.Helper()
	s.Exec(t, "UPDATE items SET deleted_at = now(), version = version + 1 WHERE id = $1", item)
}

// Extract gives an item a source and the text of its page, as the enrich job does.
func (s *Seed) Extract(t testing.TB, item uuid.UUID, text string) {
	t.Helper()
	source := "https://example.com/" + item.String()
	s.Exec(t, "UPDATE items SET source_url = $2 WHERE id = $1", item, source)
	q := db.New(s.Pool)
	s.Exec(t, "INSERT INTO item_extracts (item_id) VALUES ($1)", item)
	require.NoError(t, q.SaveExtract(context.Background(), db.SaveExtractParams{ItemID: item, SourceUrl: &source, Text: text}))
	s.Exec(t, "UPDATE items SET title = title, version = version + 1 WHERE id = $1", item)
}
