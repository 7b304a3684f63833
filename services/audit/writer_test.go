package audit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/services/audit"
)

func envelope(t *testing.T, data string) event.Envelope {
	t.Helper()
	actor, trace := uuid.New(), "4bf92f3577b34da6a3ce929d0e0e4736"
	id := uuid.New()
	e, err := event.New(event.ItemCreated, event.Entity{Type: event.EntityItem, ID: id, CollectionID: &id}, event.Origin{ActorUserID: &actor, TraceID: &trace},
		time.Now(), json.RawMessage(data))
	require.NoError(t, err)
	return e
}

func message(t *testing.T, partition int32, offset int64, e event.Envelope) *sarama.ConsumerMessage {
	t.Helper()
	value, err := json.Marshal(e)
	require.NoError(t, err)
	return &sarama.ConsumerMessage{Topic: "t", Partition: partition, Offset: offset, Value: value}
}

func handle(t *testing.T, w *audit.Writer, batch ...*sarama.ConsumerMessage) []kafka.Poison {
	t.Helper()
	poison, err := w.Handle(context.Background(), batch)
	require.NoError(t, err)
	return poison
}

// verify reads every row back and follows each partition's chain. It returns the number of rows.
func verify(t *testing.T, pool *pgxpool.Pool) int {
	t.Helper()
	rows, err := pool.Query(context.Background(), `SELECT event_id, event_type, version, occurred_at, actor_user_id, trace_id, entity_type, entity_id,
		collection_id, data::text, kafka_partition, kafka_offset, chain_position, recorded_at, previous_hash, hash
		FROM audit_events ORDER BY kafka_partition, chain_position`)
	require.NoError(t, err)
	defer rows.Close()
	previous, position := map[int32][]byte{}, map[int32]int64{}
	n := 0
	for ; rows.Next(); n++ {
		var r audit.Row
		var previousHash, hash []byte
		require.NoError(t, rows.Scan(&r.EventID, &r.EventType, &r.Version, &r.OccurredAt, &r.ActorUserID, &r.TraceID, &r.EntityType, &r.EntityID,
			&r.CollectionID, &r.Data, &r.Partition, &r.Offset, &r.Position, &r.RecordedAt, &previousHash, &hash))
		if previous[r.Partition] == nil {
			previous[r.Partition] = audit.Genesis()
		}
		require.Equal(t, position[r.Partition]+1, r.Position)
		require.Equal(t, previous[r.Partition], previousHash)
		require.Equal(t, hash, r.Hash(previousHash))
		previous[r.Partition], position[r.Partition] = hash, r.Position
	}
	require.NoError(t, rows.Err())
	return n
}

func TestEveryEventIsStoredOnceAndChained(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	w := audit.NewWriter(pool)
	a, b, c := envelope(t, `{"n": 1.50, "b": 1e3, "a": {"z": null, "y": "é<>"}, "a2": 1, "a2": 2}`), envelope(t, `{}`), envelope(t, `{"x":[1,2]}`)
	system := envelope(t, `{"unknown":"field"}`)
	system.EventType, system.ActorUserID, system.TraceID, system.Entity.CollectionID = "SomethingNew", nil, nil, nil

	require.Empty(t, handle(t, w, message(t, 0, 0, a), message(t, 0, 1, a), message(t, 0, 2, b)))
	require.Equal(t, 2, verify(t, pool))
	require.Empty(t, handle(t, w, message(t, 0, 0, a), message(t, 0, 1, a), message(t, 0, 2, b))) // all of it again
	require.Equal(t, 2, verify(t, pool))
	require.Empty(t, handle(t, w, message(t, 0, 2, b), message(t, 0, 3, c))) // a part of it again
	require.Empty(t, handle(t, w, message(t, 1, 0, system), message(t, 1, 1, c)))
	require.Equal(t, 4, verify(t, pool))
}

func TestZombiesDoNotForkTheChain(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	w := audit.NewWriter(pool)
	var batch []*sarama.ConsumerMessage
	for i := range 60 {
		batch = append(batch, message(t, 0, int64(i), envelope(t, fmt.Sprintf(`{"i":%d}`, i))))
	}
	// Four consumers believe that the partition is theirs.
	var group sync.WaitGroup
	errs := make([]error, 4)
	for k := range errs {
		group.Go(func() {
			for i := 0; i < len(batch) && errs[k] == nil; i += 5 + k {
				_, errs[k] = w.Handle(context.Background(), batch[i:min(i+5+k, len(batch))])
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.Equal(t, len(batch), verify(t, pool))
}

func TestPoisonIsSetApart(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	w := audit.NewWriter(pool)
	nul, huge := envelope(t, `{"text":"a\u0000b"}`), envelope(t, `{"n":1e200000}`)
	batch := []*sarama.ConsumerMessage{
		message(t, 0, 0, envelope(t, `{}`)),
		{Value: []byte("no json"), Offset: 1},
		message(t, 0, 2, nul),
		message(t, 0, 3, envelope(t, `{}`)),
		message(t, 0, 4, huge),
		message(t, 0, 5, envelope(t, `{}`)),
	}
	poison := handle(t, w, batch...)
	offsets := make([]int64, len(poison))
	for i, p := range poison {
		offsets[i] = p.Message.Offset
		require.NotEmpty(t, p.Reason)
	}
	require.ElementsMatch(t, []int64{1, 2, 4}, offsets)
	require.Equal(t, 3, verify(t, pool))
}

func TestTheTrailIsImmutable(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	handle(t, audit.NewWriter(pool), message(t, 0, 0, envelope(t, `{}`)))
	for _, statement := range []string{"UPDATE audit_events SET event_type = 'x'", "DELETE FROM audit_events", "TRUNCATE audit_events"} {
		_, err := pool.Exec(context.Background(), statement)
		require.ErrorContains(t, err, "audit_events is immutable", statement)
	}
	require.Equal(t, 1, verify(t, pool))
}

func TestHashCoversEveryField(t *testing.T) {
	t.Parallel()
	id, text := uuid.New(), "x"
	base := audit.Row{OccurredAt: time.Unix(1, 0), RecordedAt: time.Unix(2, 0)}
	changes := map[string]func(*audit.Row){
		"event_id":      func(r *audit.Row) { r.EventID = id },
		"event_type":    func(r *audit.Row) { r.EventType = text },
		"version":       func(r *audit.Row) { r.Version = 1 },
		"occurred_at":   func(r *audit.Row) { r.OccurredAt = time.Unix(3, 0) },
		"actor":         func(r *audit.Row) { r.ActorUserID = &id },
		"nil actor":     func(r *audit.Row) { r.ActorUserID = &uuid.Nil },
		"trace_id":      func(r *audit.Row) { r.TraceID = &text },
		"entity_type":   func(r *audit.Row) { r.EntityType = text },
		"entity_id":     func(r *audit.Row) { r.EntityID = id },
		"collection_id": func(r *audit.Row) { r.CollectionID = &id },
		"data":          func(r *audit.Row) { r.Data = text },
		"partition":     func(r *audit.Row) { r.Partition = 1 },
		"offset":        func(r *audit.Row) { r.Offset = 1 },
		"position":      func(r *audit.Row) { r.Position = 1 },
		"recorded_at":   func(r *audit.Row) { r.RecordedAt = time.Unix(3, 0) },
	}
	seen := map[string]string{string(base.Hash(audit.Genesis())): "base"}
	for name, change := range changes {
		row := base
		change(&row)
		hash := string(row.Hash(audit.Genesis()))
		require.NotContains(t, seen, hash, name)
		seen[hash] = name
	}
	require.NotEqual(t, base.Hash(audit.Genesis()), base.Hash([]byte("other")))
}
