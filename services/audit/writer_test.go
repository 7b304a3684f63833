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
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/auditchain"
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

// verify follows each partition's chain. It returns the number of rows.
func verify(t *testing.T, pool *pgxpool.Pool) int {
	t.Helper()
	report, err := auditchain.Verify(context.Background(), pool, auditchain.VerifyOptions{})
	require.NoError(t, err)
	require.Empty(t, report.Findings)
	return int(report.Rows)
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

func TestTheTraceparentIsKept(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	with, without, odd := message(t, 0, 0, envelope(t, `{}`)), message(t, 0, 1, envelope(t, `{}`)), message(t, 0, 2, envelope(t, `{}`))
	with.Headers = []*sarama.RecordHeader{{Key: []byte("event_id"), Value: []byte("x")}, {Key: []byte(kafka.HeaderTraceparent), Value: []byte(parent)}}
	odd.Headers = []*sarama.RecordHeader{{Key: []byte(kafka.HeaderTraceparent), Value: []byte("a\x00b")}}
	require.Empty(t, handle(t, audit.NewWriter(pool), with, without, odd))
	require.Equal(t, 3, verify(t, pool))
	rows, err := pool.Query(t.Context(), "SELECT coalesce(traceparent, 'none') FROM audit_events ORDER BY kafka_offset")
	require.NoError(t, err)
	kept, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{parent, "none", "none"}, kept)
}

func TestWhereRowsWereCutOffTheChainGoesOnAfterTheGap(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	w := audit.NewWriter(pool)
	for i := range 3 {
		handle(t, w, message(t, 0, int64(i), envelope(t, `{}`)))
	}
	_, err := pool.Exec(t.Context(), `ALTER TABLE audit_events DISABLE TRIGGER ALL; DELETE FROM audit_events WHERE chain_position = 3;
		ALTER TABLE audit_events ENABLE TRIGGER ALL`)
	require.NoError(t, err)
	handle(t, w, message(t, 0, 3, envelope(t, `{}`)))
	report, err := auditchain.Verify(t.Context(), pool, auditchain.VerifyOptions{})
	require.NoError(t, err)
	require.Len(t, report.Findings, 1)
	require.Equal(t, auditchain.Removed, report.Findings[0].Kind)
	require.EqualValues(t, 3, report.Findings[0].First)
}

func TestRowsOfAVersionWithoutHeadsAreFollowed(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	w := audit.NewWriter(pool)
	handle(t, w, message(t, 0, 0, envelope(t, `{}`)), message(t, 0, 1, envelope(t, `{}`)))
	// As if the second row had been written by the version before.
	_, err := pool.Exec(t.Context(), `ALTER TABLE audit_heads DISABLE TRIGGER ALL; UPDATE audit_heads SET chain_position = 1,
		hash = (SELECT hash FROM audit_events WHERE chain_position = 1); ALTER TABLE audit_heads ENABLE TRIGGER ALL`)
	require.NoError(t, err)
	handle(t, w, message(t, 0, 2, envelope(t, `{}`)))
	require.Equal(t, 3, verify(t, pool))
}
