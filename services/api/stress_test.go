package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/services/indexer"
	"github.com/atlas-platform/atlas/services/relay"
	"github.com/atlas-platform/atlas/services/worker"
)

// stress is what many writers do to a few items, and what they were told.
type stress struct {
	*testBundle
	writers     []*account
	collections []string // the last one is deleted while they write
	items       []string
	tags        []string
	sources     []string

	mu       sync.Mutex
	statuses map[string]int
	answered map[string]map[int]map[string]any // item, version: the item as an answer told it
}

// TestManyWritersOfAFewItems lets writers do everything at once that changes items, with every role of the pipeline at work, and then looks at what
// is left: versions, events, revisions, tags, sources and the index all tell the same story.
func TestManyWritersOfAFewItems(t *testing.T) {
	t.Parallel()
	const writers, steps = 16, 40
	b := setup(t)
	es, brokers := indexingtest.Client(t), kafkatest.Real(t)
	topic, alias, logger := kafkatest.NewTopic(t, brokers, 3), indexingtest.NewAlias(t, es), kafkatest.Logger(t)
	kafkatest.Start(t, relay.New(relay.Config{Brokers: brokers, Topic: topic, Retention: time.Hour}, relay.Deps{Logger: logger, Pool: b.pool}).Run)
	kafkatest.Start(t, indexer.New(indexer.Config{
		Kafka: config.Kafka{Brokers: brokers, Topic: topic}, Elasticsearch: config.Elasticsearch{Index: alias}, GroupPrefix: topic,
	}, indexer.Deps{Logger: logger, Pool: b.pool, Elasticsearch: es}).Run)
	kafkatest.Start(t, worker.New(worker.Config{Engine: jobs.Config{PollInterval: 20 * time.Millisecond}}, worker.Deps{Logger: logger, Pool: b.pool}).Run)

	s := &stress{
		testBundle: b, tags: []string{"a", "b", "c", "d", "e"}, statuses: map[string]int{}, answered: map[string]map[int]map[string]any{},
		sources: []string{"https://example.com/1", "https://example.com/2", "https://example.com/3"},
	}
	owner := b.account("owner")
	for i := range 3 {
		s.collections = append(s.collections, b.collection(owner, fmt.Sprint("c", i)))
	}
	for i := range 4 {
		w := b.account(fmt.Sprint("writer", i))
		for _, collection := range s.collections {
			b.member(owner, collection, w, "editor")
		}
		s.writers = append(s.writers, w)
	}
	for i := range 6 {
		s.items = append(s.items, b.item(owner, s.collections[i%3], fmt.Sprint("item ", i), s.tags[:i%4]...))
	}
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			for step := range steps {
				s.step(s.writers[i%len(s.writers)], fmt.Sprintf("w%d-%d", i, step))
				if i == 0 && step == steps/2 {
					s.count("delete collection", b.call(owner, "DELETE", "/v1/collections/"+s.collections[2], nil), 204)
				}
			}
		})
	}
	group.Wait()
	for _, what := range slices.Sorted(maps.Keys(s.statuses)) {
		t.Log(what, s.statuses[what])
	}
	s.settle()
	s.checkRows()
	s.checkEvents()
	s.checkHistory(owner)
	s.checkIndex(func(id uuid.UUID) indexingtest.Stored { return indexingtest.Get(t, es, alias, id) })
}

func (s *stress) one(of []string) string { return of[rand.IntN(len(of))] }

func (s *stress) someTags() []string {
	tags := slices.Clone(s.tags)
	rand.Shuffle(len(tags), func(i, j int) { tags[i], tags[j] = tags[j], tags[i] })
	return tags[:rand.IntN(4)]
}

func (s *stress) patch(name string) object {
	patch := object{"metadata": object{name: true}}
	switch rand.IntN(6) {
	case 0:
		patch["title"] = name
	case 1:
		patch["content"], patch["tags"] = name, s.someTags()
	case 2:
		patch["tags"] = s.someTags()
	case 3:
		patch["source_url"] = s.one(s.sources)
	case 4:
		patch["collection_id"] = s.one(s.collections)
	default:
		patch["source_url"] = nil
	}
	return patch
}

// step is one random change.
func (s *stress) step(w *account, name string) {
	item, collection := s.one(s.items), s.one(s.collections)
	var options []option
	if rand.IntN(3) == 0 {
		options = append(options, key(name))
	}
	switch rand.IntN(16) {
	case 0, 1, 2, 3, 4:
		if a := s.count("patch", s.call(w, "PATCH", "/v1/items/"+item, s.patch(name)), 200, 404, 409); a.status == 404 {
			s.count("restore", s.call(w, "POST", "/v1/items/"+item+"/restore", nil, options...), 200, 404, 409)
		}
	case 5:
		s.count("delete", s.call(w, "DELETE", "/v1/items/"+item, nil), 204, 404)
	case 6, 7:
		s.count("restore", s.call(w, "POST", "/v1/items/"+item+"/restore", nil, options...), 200, 404, 409)
	case 8:
		s.count("revert", s.call(w, "POST", fmt.Sprintf("/v1/items/%s/revisions/%d/restore", item, 1+rand.IntN(5)), nil, options...), 200, 404, 409)
	case 9:
		s.count("create", s.call(w, "POST", "/v1/items", object{
			"collection_id": collection, "title": name, "content": "", "tags": s.someTags(), "source_url": s.one(s.sources),
		}, options...), 200, 201, 404)
	case 10, 11:
		operations := []map[string]any{
			change(s.one(s.items), s.patch(name+"-1")), change(s.one(s.items), s.patch(name+"-2")), deletion(s.one(s.items)),
			creation(collection, name, "tags", s.someTags()),
		}
		rand.Shuffle(len(operations), func(i, j int) { operations[i], operations[j] = operations[j], operations[i] })
		a := s.count("bulk", s.call(w, "POST", "/v1/items/bulk", bulk(rand.IntN(2) == 0, operations...), options...), 200, 404, 409)
		if results, ok := a.body["results"].([]any); ok {
			for _, result := range results {
				s.note(fmt.Sprint("bulk item ", result.(map[string]any)["status"]))
			}
		}
	case 12:
		lines := ""
		for i := range 5 {
			lines += fmt.Sprintf(`{"title":%q,"tags":[%q,%q],"source_url":"https://example.com/%d"}`+"\n", name, s.one(s.tags), s.one(s.tags), i)
		}
		s.count("import", s.importNDJSON(w, collection, lines), 200, 404, 429)
	default:
		s.changeTag(w, collection, options)
	}
}

func (s *stress) changeTag(w *account, collection string, options []option) {
	a := s.call(w, "GET", "/v1/collections/"+collection+"/tags", nil)
	if a.status != 200 || len(a.items()) < 2 {
		return
	}
	tags := a.items()
	rand.Shuffle(len(tags), func(i, j int) { tags[i], tags[j] = tags[j], tags[i] })
	path := "/v1/collections/" + collection + "/tags/" + tags[0]["id"].(string)
	switch rand.IntN(4) {
	case 0:
		s.count("tag delete", s.call(w, "DELETE", path, nil), 204, 404)
	case 1:
		s.count("tag merge", s.call(w, "POST", path+"/merge", object{"tag_ids": []any{tags[1]["id"]}}, options...), 200, 404)
	default:
		s.count("tag rename", s.call(w, "PATCH", path, object{"name": s.one(s.tags)}), 200, 404, 409)
	}
}

// count remembers an answer, and what it tells about an item.
func (s *stress) count(what string, a answer, possible ...int) answer {
	s.note(fmt.Sprint(what, " ", a.status))
	if !slices.Contains(possible, a.status) && a.status != 503 {
		s.t.Errorf("%s: %d %s", what, a.status, a.raw)
	}
	version, is := a.body["version"].(float64)
	if _, titled := a.body["title"]; !is || !titled || a.replayed() || a.status >= 300 {
		return a
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answered[a.id()] == nil {
		s.answered[a.id()] = map[int]map[string]any{}
	}
	if before := s.answered[a.id()][int(version)]; before != nil {
		for _, field := range []string{"title", "content", "source_url", "tags", "metadata", "collection_id"} {
			if !equalJSON(before[field], a.body[field]) {
				s.t.Errorf("two answers differ about version %v of %s: %v and %v", version, a.id(), before, a.body)
			}
		}
	}
	s.answered[a.id()][int(version)] = a.body
	return a
}

func equalJSON(a, b any) bool {
	first, _ := json.Marshal(a)
	second, _ := json.Marshal(b)
	return string(first) == string(second)
}

func (s *stress) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statuses[what]++
}

// settle waits for the purge, the relay and the indexer.
func (s *stress) settle() {
	require.Eventually(s.t, func() bool {
		return s.number("SELECT count(*) FROM jobs WHERE state IN ('QUEUED', 'RUNNING')") == 0
	}, time.Minute, 20*time.Millisecond)
	require.Eventually(s.t, func() bool {
		return s.number("SELECT count(*) FROM outbox WHERE published_at IS NULL") == 0
	}, time.Minute, 20*time.Millisecond)
	require.Eventually(s.t, func() bool {
		return s.number(`SELECT count(*) FROM items i LEFT JOIN item_index_state s ON s.item_id = i.id
			WHERE i.deleted_at IS NULL AND s.indexed_version IS DISTINCT FROM i.version`) == 0
	}, time.Minute, 20*time.Millisecond)
}

func (s *stress) checkRows() {
	t := s.t
	require.Zero(t, s.number("SELECT count(*) FROM items i JOIN collections c ON c.id = i.collection_id WHERE c.deleted_at IS NOT NULL AND i.deleted_at IS NULL"))
	require.Zero(t, s.number("SELECT count(*) FROM item_tags it JOIN items i ON i.id = it.item_id JOIN tags t ON t.id = it.tag_id WHERE t.collection_id <> i.collection_id"))
	require.Zero(t, s.number("SELECT count(*) FROM (SELECT 1 FROM items WHERE deleted_at IS NULL AND source_key IS NOT NULL GROUP BY collection_id, source_key HAVING count(*) > 1) AS twice"))
	require.Zero(t, s.number("SELECT count(*) FROM items WHERE source_key IS DISTINCT FROM sha256(source_url::bytea)"))
	require.Zero(t, s.number("SELECT count(*) FROM idempotency_keys WHERE status = 0"))
}

// checkEvents: for each item, events are in the order of versions and the last one is the row's. Only what happened to tags in the trash has none.
func (s *stress) checkEvents() {
	t := s.t
	versions := map[uuid.UUID][]int64{}
	for _, e := range s.envelopes() {
		if e.Entity.Type == event.EntityItem {
			versions[e.Entity.ID] = append(versions[e.Entity.ID], int64(dataOf(t, e)["entity_version"].(float64)))
		}
	}
	rows, err := s.pool.Query(t.Context(), `SELECT i.id, i.version, i.deleted_at IS NOT NULL, c.deleted_at IS NOT NULL,
		ARRAY(SELECT version FROM item_revisions r WHERE r.item_id = i.id ORDER BY version),
		ARRAY(SELECT version FROM item_revisions r WHERE r.item_id = i.id AND changed_fields = '{tags}')
		FROM items i JOIN collections c ON c.id = i.collection_id`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var id uuid.UUID
		var version int64
		var deleted, purged bool
		var revisions, retagged []int64
		require.NoError(t, rows.Scan(&id, &version, &deleted, &purged, &revisions, &retagged))
		told := versions[id]
		require.NotEmpty(t, told)
		require.True(t, slices.IsSorted(told), "%v", told)
		require.Len(t, slices.Compact(slices.Clone(told)), len(told), "%v", told)
		require.LessOrEqual(t, told[len(told)-1], version)
		if !deleted {
			require.Equal(t, version, told[len(told)-1])
		}
		for v := int64(1); v <= version; v++ {
			if !slices.Contains(told, v) {
				require.Contains(t, retagged, v, "version %d of %s has no event", v, id)
			}
			if v > 1 && !slices.Contains(revisions, v) {
				require.True(t, purged && deleted, "version %d of %s has no revision", v, id)
			}
		}
		require.LessOrEqual(t, len(revisions), int(version-1))
	}
	require.NoError(t, rows.Err())
}

// checkHistory: every version of a live item is as it was answered then.
func (s *stress) checkHistory(user *account) {
	checked := 0
	for id, versions := range s.answered {
		now := s.call(user, "GET", "/v1/items/"+id, nil)
		if now.status != 200 {
			continue
		}
		for version := 1; version <= int(now.body["version"].(float64)); version++ {
			was := s.call(user, "GET", fmt.Sprintf("/v1/items/%s/revisions/%d", id, version), nil).is(200).body
			told := versions[version]
			if told == nil {
				continue
			}
			checked++
			for _, field := range []string{"title", "content", "source_url", "tags", "metadata"} {
				require.True(s.t, equalJSON(told[field], was[field]), "%s of version %d of %s: %v then, %v now", field, version, id, told, was)
			}
		}
	}
	s.t.Log("versions compared:", checked)
	require.NotZero(s.t, checked)
}

// checkIndex: search has every live item in its version, and nothing else.
func (s *stress) checkIndex(get func(id uuid.UUID) indexingtest.Stored) {
	rows, err := s.pool.Query(context.Background(), `SELECT i.id, i.version, i.deleted_at IS NULL, i.collection_id::text,
		ARRAY(SELECT t.name FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id ORDER BY t.name COLLATE "C") FROM items i`)
	require.NoError(s.t, err)
	defer rows.Close()
	for rows.Next() {
		var id uuid.UUID
		var version int64
		var live bool
		var collection string
		var tags []string
		require.NoError(s.t, rows.Scan(&id, &version, &live, &collection, &tags))
		var stored indexingtest.Stored
		require.Eventually(s.t, func() bool { stored = get(id); return stored.Found == live }, time.Minute, 20*time.Millisecond, "%s live: %v", id, live)
		if live {
			require.Equal(s.t, version, stored.Version)
			require.Equal(s.t, collection, stored.Source["collection_id"])
			require.Equal(s.t, strings.Join(tags, ","), strings.Trim(strings.ReplaceAll(fmt.Sprint(stored.Source["tags"]), " ", ","), "[]"))
		}
	}
	require.NoError(s.t, rows.Err())
}
