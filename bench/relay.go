package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/services/relay"
)

// relayRate is what the relay is wanted to do at least, on two cores, and relayShare of what sarama's own producer does.
const (
	relayRate  = 30_000
	relayShare = 0.6
	bareBatch  = 2000 // the relay's
)

const benchTraceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"

// measureRelay times how fast a backlog goes from the outbox to Kafka, and beside it how fast sarama's idempotent producer sends the same records to
// the same topic, with nothing to read and nothing to settle.
func measureRelay(ctx context.Context, o options, p *platformBundle, r *report) error {
	pool, err := p.relayDatabase(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	events, err := manyEvents(o.events)
	if err != nil {
		return err
	}
	atlas := contender{"relay: outbox → Kafka", func(ctx context.Context, _ time.Duration, _ int) (result, error) {
		return p.drain(ctx, pool, events)
	}}
	bare := contender{"bare sarama, idempotent", func(context.Context, time.Duration, int) (result, error) { return p.sendBare(events) }}
	atOnce := contender{"sarama without waiting", func(ctx context.Context, _ time.Duration, _ int) (result, error) {
		return p.sendAtOnce(ctx, events)
	}}
	measured, err := compare(ctx, o, 1, atlas, bare, atOnce)
	if err != nil {
		return err
	}
	r.ratio(atlas.name, bare.name, measured[0].perSecond, measured[1].perSecond, relayShare)
	r.limit("events/s of the relay", fmt.Sprintf("%.0f/s", measured[0].perSecond), measured[0].perSecond >= relayRate, "≥ 30000/s")
	r.note(fmt.Sprintf("sarama's asynchronous producer, given everything at once: %.0f/s; it lets later events pass earlier ones that failed", measured[2].perSecond))
	return nil
}

func (p *platformBundle) relayDatabase(ctx context.Context) (*pgxpool.Pool, error) {
	url, err := p.database(ctx, p.server, p.names[0]+"_relay")
	if err != nil {
		return nil, err
	}
	return postgres.Open(ctx, url, 4)
}

// manyEvents are outbox rows of items, five events each.
func manyEvents(n int) ([][]any, error) {
	rows := make([][]any, n)
	collection, user, trace := uuid.New(), uuid.New(), "0af7651916cd43dd8448eb211c80319c"
	items := make([]uuid.UUID, n/5+1)
	for i := range items {
		items[i] = uuid.Must(uuid.NewV7())
	}
	for i := range rows {
		item := items[i%len(items)]
		e, err := event.New(event.ItemUpdated, event.Entity{Type: event.EntityItem, ID: item, CollectionID: &collection},
			event.Origin{ActorUserID: &user, TraceID: &trace}, time.Now(),
			event.ItemData{ItemID: item, CollectionID: collection, EntityVersion: int64(i/len(items) + 1), ChangedFields: []string{"title", "content", "tags"}})
		if err != nil {
			return nil, fmt.Errorf("make an event: %w", err)
		}
		payload, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("encode an event: %w", err)
		}
		rows[i] = []any{e.EventID, item, payload, benchTraceparent}
	}
	return rows, nil
}

// drain fills the outbox and times how long a relay takes to have everything in Kafka and settled, from its start.
func (p *platformBundle) drain(ctx context.Context, pool *pgxpool.Pool, events [][]any) (result, error) {
	if _, err := pool.CopyFrom(ctx, pgx.Identifier{"outbox"}, []string{"event_id", "aggregate_id", "payload", "traceparent"}, pgx.CopyFromRows(events)); err != nil {
		return result{}, fmt.Errorf("fill the outbox: %w", err)
	}
	if _, err := pool.Exec(ctx, "VACUUM (ANALYZE) outbox"); err != nil {
		return result{}, fmt.Errorf("analyse: %w", err)
	}
	publisher := relay.New(relay.Config{Brokers: p.brokers, Topic: p.topic}, relay.Deps{Logger: slog.New(slog.DiscardHandler), Pool: pool})
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	begin := time.Now()
	go func() { ended <- publisher.Run(running) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for waiting := true; waiting; {
		<-tick.C
		if err := pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM outbox WHERE published_at IS NULL)").Scan(&waiting); err != nil {
			return result{}, fmt.Errorf("look at the outbox: %w", err)
		}
	}
	took := time.Since(begin)
	stop()
	return result{perSecond: float64(len(events)) / took.Seconds()}, <-ended
}

// bareMessages are the same records for sarama.
func (p *platformBundle) bareMessages(events [][]any) []*sarama.ProducerMessage {
	out := make([]*sarama.ProducerMessage, len(events))
	for i, e := range events {
		id, item, payload := e[0].(uuid.UUID), e[1].(uuid.UUID), e[2].([]byte) //nolint:forcetypeassert // made above
		out[i] = &sarama.ProducerMessage{
			Topic: p.topic, Key: sarama.StringEncoder(item.String()), Value: sarama.ByteEncoder(payload),
			Headers: []sarama.RecordHeader{
				{Key: []byte(kafka.HeaderEventID), Value: []byte(id.String())},
				{Key: []byte(kafka.HeaderEventType), Value: []byte(event.ItemUpdated)},
				{Key: []byte(kafka.HeaderTraceparent), Value: []byte(benchTraceparent)},
			},
		}
	}
	return out
}

// sendBare sends batches as large as the relay's, each when the one before is acknowledged: what a relay would do that has no database to ask.
func (p *platformBundle) sendBare(events [][]any) (result, error) {
	producer, err := kafka.NewProducer(p.brokers, "atlas-bench")
	if err != nil {
		return result{}, err
	}
	defer producer.Close() //nolint:errcheck // all is acknowledged, or has failed already
	begin := time.Now()
	for batch := range slices.Chunk(events, bareBatch) {
		if err := producer.SendMessages(p.bareMessages(batch)); err != nil {
			return result{}, fmt.Errorf("send to Kafka: %w", err)
		}
	}
	return result{perSecond: float64(len(events)) / time.Since(begin).Seconds()}, nil
}

// sendAtOnce gives sarama all it can take, without waiting for anything: more than any relay may, since what fails is overtaken by what follows.
func (p *platformBundle) sendAtOnce(ctx context.Context, events [][]any) (result, error) {
	producer, err := sarama.NewAsyncProducer(p.brokers, kafka.NewProducerConfig("atlas-bench"))
	if err != nil {
		return result{}, fmt.Errorf("connect to Kafka: %w", err)
	}
	defer producer.Close() //nolint:errcheck // all is acknowledged, or has failed already
	begin := time.Now()
	go func() {
		for batch := range slices.Chunk(events, bareBatch) {
			for _, m := range p.bareMessages(batch) {
				producer.Input() <- m
			}
		}
	}()
	for range events {
		select {
		case <-producer.Successes():
		case failed := <-producer.Errors():
			return result{}, fmt.Errorf("send to Kafka: %w", failed)
		case <-ctx.Done():
			return result{}, ctx.Err()
		}
	}
	return result{perSecond: float64(len(events)) / time.Since(begin).Seconds()}, nil
}
