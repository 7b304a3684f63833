package relay_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/services/audit"
	"github.com/atlas-platform/atlas/services/indexer"
	"github.com/atlas-platform/atlas/services/relay"
)

// TestFromOutboxToIndexAndTrail runs the whole pipeline in one process: every committed event is in the topic and in the trail once, and the index
// has exactly the live items, although consumers come and go meanwhile.
func TestFromOutboxToIndexAndTrail(t *testing.T) {
	t.Parallel()
	const items, writes = 40, 5
	ctx := context.Background()
	pool, es, brokers := pgtest.New(t), indexingtest.Client(t), kafkatest.Real(t)
	topic, alias, seed := kafkatest.NewTopic(t, brokers, 3), indexingtest.NewAlias(t, es), indexingtest.NewSeed(t, pool)
	logger, registry := kafkatest.Logger(t), prometheus.NewRegistry() // one registry for all roles, as in one process
	kafkaConfig := config.Kafka{Brokers: brokers, Topic: topic}
	indexerConfig := indexer.Config{Kafka: kafkaConfig, Elasticsearch: config.Elasticsearch{Index: alias}, GroupPrefix: topic}
	auditConfig := audit.Config{Kafka: kafkaConfig, GroupPrefix: topic}

	kafkatest.Start(t, relay.New(relay.Config{Brokers: brokers, Topic: topic, Retention: time.Hour}, relay.Deps{Logger: logger, Pool: pool, Registerer: registry}).Run)
	first := []func(){
		kafkatest.Start(t, indexer.New(indexerConfig, indexer.Deps{Logger: logger, Pool: pool, Elasticsearch: es, Registerer: registry}).Run),
		kafkatest.Start(t, audit.New(auditConfig, audit.Deps{Logger: logger, Pool: pool, Registerer: registry}).Run),
	}

	collection := seed.Collection(t)
	var ids []uuid.UUID
	for range items {
		ids = append(ids, seed.Item(t, collection, "item", ""))
	}
	var group sync.WaitGroup
	errs := make([]error, items)
	for i, id := range ids {
		group.Go(func() {
			for range writes {
				if errs[i] = write(ctx, pool, id); errs[i] != nil {
					return
				}
			}
			if i%4 == 0 {
				errs[i] = postgres.InTx(ctx, pool, func(tx pgx.Tx) error {
					var version int64
					err := tx.QueryRow(ctx, "UPDATE items SET deleted_at = now(), version = version + 1 WHERE id = $1 RETURNING version", id).Scan(&version)
					if err != nil {
						return err
					}
					return announce(ctx, tx, id, version)
				})
			}
		})
	}
	kafkatest.Start(t, indexer.New(indexerConfig, indexer.Deps{Logger: logger, Pool: pool, Elasticsearch: es}).Run)
	kafkatest.Start(t, audit.New(auditConfig, audit.Deps{Logger: logger, Pool: pool}).Run)
	for _, stop := range first {
		stop()
	}
	group.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	const total = items*writes + items/4
	drained(t, pool)

	require.Eventually(t, func() bool {
		var n int
		require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FROM audit_events JOIN outbox USING (event_id)").Scan(&n))
		return n == total
	}, patience, 20*time.Millisecond)
	seen := map[uuid.UUID]bool{}
	for _, msg := range kafkatest.Read(t, brokers, topic, total) {
		e, err := event.Decode(msg.Value)
		require.NoError(t, err)
		seen[e.EventID] = true
	}
	require.Len(t, seen, total)

	require.Eventually(t, func() bool {
		var behind int
		require.NoError(t, pool.QueryRow(ctx, `SELECT count(*) FROM items i LEFT JOIN item_index_state s ON s.item_id = i.id
			WHERE s.indexed_version IS DISTINCT FROM i.version`).Scan(&behind))
		return behind == 0
	}, patience, 20*time.Millisecond)
	for i, id := range ids {
		stored := indexingtest.Get(t, es, alias, id)
		require.Equal(t, i%4 != 0, stored.Found)
		if stored.Found {
			require.EqualValues(t, writes+1, stored.Version)
		}
	}
}
