package indexer_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/elastic/go-elasticsearch/v8"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/services/indexer"
)

const patience = 2 * time.Minute

type bundle struct {
	*indexingtest.Seed
	es      *elasticsearch.Client
	alias   string
	brokers []string
	topic   string
	service *indexer.Service
}

// setup makes a world; client is what the service uses, nil means the real Elasticsearch itself.
func setup(t *testing.T, client *elasticsearch.Client) bundle {
	t.Helper()
	pool, es := pgtest.New(t), indexingtest.Client(t)
	b := bundle{Seed: indexingtest.NewSeed(t, pool), es: es, alias: indexingtest.NewAlias(t, es), brokers: kafkatest.Real(t)}
	b.topic = kafkatest.NewTopic(t, b.brokers, 1)
	if client == nil {
		client = es
	}
	b.service = newService(t, b, pool, client)
	return b
}

func newService(t *testing.T, b bundle, pool *pgxpool.Pool, client *elasticsearch.Client) *indexer.Service {
	return indexer.New(indexer.Config{
		Kafka: config.Kafka{Brokers: b.brokers, Topic: b.topic}, Elasticsearch: config.Elasticsearch{Index: b.alias}, GroupPrefix: b.topic,
	}, indexer.Deps{Logger: kafkatest.Logger(t), Pool: pool, Elasticsearch: client, Registerer: prometheus.NewRegistry()})
}

func encode(t *testing.T, eventType event.Type, entity event.Entity, data any) []byte {
	t.Helper()
	e, err := event.New(eventType, entity, event.Origin{}, time.Now(), data)
	require.NoError(t, err)
	b, err := json.Marshal(e)
	require.NoError(t, err)
	return b
}

func itemEvent(t *testing.T, eventType event.Type, item uuid.UUID, version int64) []byte {
	t.Helper()
	return encode(t, eventType, event.Entity{Type: event.EntityItem, ID: item}, event.ItemData{ItemID: item, EntityVersion: version})
}

func (b bundle) send(t *testing.T, key uuid.UUID, values ...[]byte) {
	t.Helper()
	kafkatest.Send(t, b.brokers, b.topic, key.String(), values...)
}

func (b bundle) eventually(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, patience, 20*time.Millisecond)
}

func TestItemsFollowTheirEvents(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	kafkatest.Start(t, b.service.Run)
	item := b.Item(t, b.Collection(t), "one", "text", "tag")
	b.send(t, item, itemEvent(t, event.ItemCreated, item, 1))
	b.eventually(t, func() bool { return indexingtest.Get(t, b.es, b.alias, item).Found })

	b.Update(t, item, "two")
	created, updated := itemEvent(t, event.ItemCreated, item, 1), itemEvent(t, event.ItemUpdated, item, 2)
	b.send(t, item, updated, updated, created) // twice, and an old one late
	b.eventually(t, func() bool { return indexingtest.Get(t, b.es, b.alias, item).Version == 2 })
	require.Equal(t, "two", indexingtest.Get(t, b.es, b.alias, item).Source["title"])

	b.Delete(t, item)
	b.send(t, item, itemEvent(t, event.ItemDeleted, item, 3), updated)
	b.eventually(t, func() bool { return !indexingtest.Get(t, b.es, b.alias, item).Found })
	for name, check := range b.service.Checks() {
		require.NoError(t, check(context.Background()), name)
	}
}

// TestADeletedCollectionLeavesTheIndex by the events of its purge, whatever the order in which they meet CollectionDeleted; what was moved out stays.
func TestADeletedCollectionLeavesTheIndex(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	kafkatest.Start(t, b.service.Run)
	c, other := b.Collection(t), b.Collection(t)
	item, moved := b.Item(t, c, "one", ""), b.Item(t, c, "two", "")
	b.send(t, item, itemEvent(t, event.ItemCreated, item, 1))
	b.send(t, moved, itemEvent(t, event.ItemCreated, moved, 1))
	b.eventually(t, func() bool {
		return indexingtest.Get(t, b.es, b.alias, item).Found && indexingtest.Get(t, b.es, b.alias, moved).Found
	})
	b.Exec(t, "UPDATE items SET collection_id = $2, version = 2 WHERE id = $1", moved, other)
	b.Exec(t, "UPDATE collections SET deleted_at = now(), version = 2 WHERE id = $1", c)
	b.send(t, c, encode(t, event.CollectionDeleted, event.Entity{Type: event.EntityCollection, ID: c, CollectionID: &c}, event.CollectionData{CollectionID: c, EntityVersion: 2}))
	b.send(t, moved, itemEvent(t, event.ItemUpdated, moved, 2))
	b.Delete(t, item) // the purge
	b.send(t, item, itemEvent(t, event.ItemDeleted, item, 2))
	b.eventually(t, func() bool { return !indexingtest.Get(t, b.es, b.alias, item).Found })
	b.eventually(t, func() bool {
		return indexingtest.Get(t, b.es, b.alias, moved).Source["collection_id"] == other.String()
	})
}

func TestWithoutElasticsearchTheStateIsRecorded(t *testing.T) {
	t.Parallel()
	pool, brokers := pgtest.New(t), kafkatest.Fake(t)
	b := bundle{Seed: indexingtest.NewSeed(t, pool), brokers: brokers, topic: kafkatest.NewTopic(t, brokers, 1)}
	service := newService(t, b, pool, nil)
	kafkatest.Start(t, service.Run)
	item := b.Item(t, b.Collection(t), "one", "")
	b.send(t, item, itemEvent(t, event.ItemCreated, item, 1))
	b.eventually(t, func() bool {
		var n int
		require.NoError(t, pool.QueryRow(context.Background(), "SELECT count(*) FROM item_index_state WHERE item_id = $1 AND indexed_version = 1", item).Scan(&n))
		return n == 1
	})
	require.NotContains(t, service.Checks(), "elasticsearch")
}

func TestPoisonDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	item := b.Item(t, b.Collection(t), "fine", "")
	odd := encode(t, event.ItemCreated, event.Entity{Type: event.EntityItem, ID: item}, "data is no object")
	unknown := encode(t, "ItemFrobnicated", event.Entity{Type: event.EntityItem, ID: item}, struct{}{})
	b.send(t, item, []byte("no json"), odd, unknown, itemEvent(t, event.ItemCreated, item, 1))
	kafkatest.Start(t, b.service.Run)
	letters := kafkatest.Read(t, b.brokers, kafka.DeadLetterTopic(b.topic), 2)
	require.Equal(t, "no json", string(letters[0].Value))
	require.Equal(t, odd, letters[1].Value)
	b.eventually(t, func() bool { return indexingtest.Get(t, b.es, b.alias, item).Found })
}

func TestWhatElasticsearchRefusesForGoodIsADeadLetter(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	ctx := context.Background()
	// The index, an own one by its name, is narrower than the documents: a mapping mistake.
	state, err := elastic.ObserveIndex(ctx, b.es, b.alias)
	require.NoError(t, err)
	for name := range state.Indices {
		res, err := b.es.Indices.Delete([]string{name})
		require.NoError(t, err)
		require.False(t, res.IsError())
		_ = res.Body.Close()
	}
	require.Eventually(t, func() bool { return elastic.Ping(ctx, b.es, b.alias) != nil }, patience, 20*time.Millisecond)
	body := `{"mappings":{"properties":{"title":{"type":"long"}}},"aliases":{"` + b.alias + `":{}}}`
	res, err := b.es.Indices.Create(b.alias+"-01234567-20250102030405", b.es.Indices.Create.WithBody(strings.NewReader(body)))
	require.NoError(t, err)
	require.False(t, res.IsError(), res.String())
	_ = res.Body.Close()

	c := b.Collection(t)
	bad, good := b.Item(t, c, "words", ""), b.Item(t, c, "42", "")
	b.send(t, bad, itemEvent(t, event.ItemCreated, bad, 1))
	b.send(t, good, itemEvent(t, event.ItemCreated, good, 1))
	kafkatest.Start(t, b.service.Run)
	letters := kafkatest.Read(t, b.brokers, kafka.DeadLetterTopic(b.topic), 1)
	require.Equal(t, bad.String(), string(letters[0].Key))
	require.Contains(t, kafkatest.Header(letters[0], kafka.HeaderDLQReason), "refused by Elasticsearch")
	b.eventually(t, func() bool { return indexingtest.Get(t, b.es, b.alias, good).Found })
}

func TestElasticsearchDownThenUp(t *testing.T) {
	t.Parallel()
	target, err := url.Parse(indexingtest.URLs(t)[0])
	require.NoError(t, err)
	var up atomic.Bool
	refused := make(chan struct{}, 1)
	proxy := httputil.NewSingleHostReverseProxy(target)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if up.Load() {
			proxy.ServeHTTP(w, r)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		select {
		case refused <- struct{}{}:
		default:
		}
	}))
	t.Cleanup(server.Close)
	client, err := elastic.NewClient(elastic.Config{URLs: []string{server.URL}})
	require.NoError(t, err)
	b := setup(t, client)
	kafkatest.Start(t, b.service.Run)
	item := b.Item(t, b.Collection(t), "one", "")
	b.send(t, item, itemEvent(t, event.ItemCreated, item, 1))
	for range 2 {
		<-refused
	}
	require.EqualValues(t, -1, kafkatest.Committed(t, b.brokers, b.topic+"-indexer", b.topic, 0))
	for _, dependency := range []string{"kafka", "elasticsearch"} { // soon after it was refused
		b.eventually(t, func() bool { return b.service.Checks()[dependency](context.Background()) != nil })
	}
	up.Store(true)
	b.eventually(t, func() bool { return indexingtest.Get(t, b.es, b.alias, item).Found })
	b.eventually(t, func() bool { return kafkatest.Committed(t, b.brokers, b.topic+"-indexer", b.topic, 0) == 1 })

	// Nothing went to the dead-letter topic.
	consumer, err := sarama.NewClient(b.brokers, kafka.NewConfig("test"))
	require.NoError(t, err)
	defer func() { require.NoError(t, consumer.Close()) }()
	newest, err := consumer.GetOffset(kafka.DeadLetterTopic(b.topic), 0, sarama.OffsetNewest)
	require.NoError(t, err)
	require.Zero(t, newest)
}
