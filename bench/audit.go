package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/auditchain"
	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/services/audit"
)

const (
	auditBatch      = 500 // as the consumer's
	auditPartitions = 3
)

// measureAudit compares the audit consumer's writer, from a batch of Kafka messages to the commit, with a bare insert of rows that are ready, in one
// statement, into a table with the same columns and indexes; then it follows the chain that was written.
func measureAudit(ctx context.Context, o options, p *platformBundle, r *report) error {
	own, err := postgres.Open(ctx, p.own.Config().ConnString(), auditPartitions+1)
	if err != nil {
		return err
	}
	defer own.Close()
	bare, err := postgres.Open(ctx, p.bareURL, auditPartitions+1) // encodes UUIDs as quickly
	if err != nil {
		return err
	}
	defer bare.Close()
	if _, err := bare.Exec(ctx, "CREATE TABLE audit_bare (LIKE audit_events INCLUDING ALL)"); err != nil {
		return fmt.Errorf("make the bare table: %w", err)
	}
	writer, offset := audit.NewWriter(own), [auditPartitions]int64{}
	atlas := batches("audit writer", func(partition int32) (func(context.Context) error, error) {
		messages, err := auditMessages(p, partition, offset[partition], auditBatch)
		first := offset[partition]
		offset[partition] += auditBatch
		kept := pack(messages)
		return func(ctx context.Context) error {
			poison, err := writer.Handle(ctx, kept.unpack(partition, first))
			if err == nil && len(poison) > 0 {
				return fmt.Errorf("%d events refused", len(poison))
			}
			return err
		}, err
	})
	var position [auditPartitions]int64
	plain := batches("bare insert", func(partition int32) (func(context.Context) error, error) {
		messages, err := auditMessages(p, partition, position[partition], auditBatch)
		if err != nil {
			return nil, err
		}
		arguments, err := bareRows(messages, &position[partition])
		return func(ctx context.Context) error {
			_, err := bare.Exec(ctx, bareAuditInsert, arguments...)
			return err
		}, err
	})
	o.connections = auditPartitions
	if err := r.compare(ctx, o, 0.5, atlas, plain); err != nil {
		return err
	}
	return followChain(ctx, own, r)
}

// followChain verifies what was written and notes how fast that is.
func followChain(ctx context.Context, pool *pgxpool.Pool, r *report) error {
	begin := time.Now()
	verified, err := auditchain.Verify(ctx, pool, auditchain.VerifyOptions{})
	if err != nil {
		return err
	}
	if verified.Found > 0 {
		return fmt.Errorf("the chain that was written has %d findings: %s", verified.Found, &verified.Findings[0])
	}
	r.note(fmt.Sprintf("atlas audit verify: %d rows, %.0f/s", verified.Rows, float64(verified.Rows)/time.Since(begin).Seconds()))
	return nil
}

// batches is a contender that makes as many batches as it may need before the clock runs, then works on each partition for a while.
func batches(name string, prepare func(partition int32) (func(context.Context) error, error)) contender {
	const enough = 60 // batches of a partition for each second
	return contender{name, func(ctx context.Context, length time.Duration, partitions int) (result, error) {
		ready := make(chan chan func(context.Context) error, partitions)
		for partition := range partitions {
			n := enough * int(length/time.Second+1)
			queue := make(chan func(context.Context) error, n)
			for range n {
				work, err := prepare(int32(partition))
				if err != nil {
					return result{}, err
				}
				queue <- work
			}
			ready <- queue
		}
		done, err := loop(name, func(ctx context.Context) error {
			queue := <-ready
			defer func() { ready <- queue }()
			select {
			case work := <-queue:
				return work(ctx)
			default:
				return fmt.Errorf("more than %d batches a second: prepare more", enough*partitions)
			}
		}).run(ctx, length, partitions)
		done.perSecond *= auditBatch
		return done, err
	}}
}

// auditMessages are events as the relay publishes them.
func auditMessages(p *platformBundle, partition int32, offset int64, n int) ([]*sarama.ConsumerMessage, error) {
	out := make([]*sarama.ConsumerMessage, n)
	for i := range out {
		item, trace := uuid.Must(uuid.NewV7()), strings.ReplaceAll(uuid.NewString(), "-", "")
		e, err := event.New(event.ItemUpdated, event.Entity{Type: event.EntityItem, ID: item, CollectionID: &p.collection},
			event.Origin{ActorUserID: &p.user, TraceID: &trace}, time.Now(),
			event.ItemData{ItemID: item, CollectionID: p.collection, EntityVersion: 2, ChangedFields: []string{"title", "content"}})
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("encode an event: %w", err)
		}
		out[i] = &sarama.ConsumerMessage{
			Topic: p.topic, Partition: partition, Offset: offset + int64(i), Key: item[:], Value: value,
			Headers: []*sarama.RecordHeader{{Key: []byte(kafka.HeaderTraceparent), Value: []byte("00-" + trace + "-b7ad6b7169203331-00")}},
		}
	}
	return out, nil
}

// packed are messages in one piece of memory, as a fetch from a broker has them: while thousands of batches wait for their turn, the garbage
// collector, which no consumer would keep that busy, has nothing to follow.
type packed struct {
	bytes []byte
	ends  []int // of values and traceparents in turn
}

func pack(messages []*sarama.ConsumerMessage) (p packed) {
	for _, m := range messages {
		for _, b := range [][]byte{m.Value, m.Headers[0].Value} {
			p.bytes = append(p.bytes, b...)
			p.ends = append(p.ends, len(p.bytes))
		}
	}
	return p
}

func (p packed) unpack(partition int32, offset int64) []*sarama.ConsumerMessage {
	out, begin := make([]*sarama.ConsumerMessage, len(p.ends)/2), 0
	for i := range out {
		value, header := p.ends[2*i], p.ends[2*i+1]
		out[i] = &sarama.ConsumerMessage{
			Partition: partition, Offset: offset + int64(i), Value: p.bytes[begin:value],
			Headers: []*sarama.RecordHeader{{Key: []byte(kafka.HeaderTraceparent), Value: p.bytes[value:header]}},
		}
		begin = header
	}
	return out
}

const bareAuditInsert = `INSERT INTO audit_bare (event_id, event_type, version, occurred_at, actor_user_id, trace_id, traceparent, entity_type, entity_id,
		collection_id, data, kafka_partition, kafka_offset, chain_position, previous_hash, hash)
	SELECT * FROM unnest($1::uuid[], $2::text[], $3::integer[], $4::timestamptz[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::uuid[],
		$10::uuid[], $11::jsonb[], $12::integer[], $13::bigint[], $14::bigint[], $15::bytea[], $16::bytea[])`

// bareRows are the columns of the rows that the writer would make of the messages, but for the hashes.
func bareRows(messages []*sarama.ConsumerMessage, position *int64) ([]any, error) {
	var (
		ids, actors, entities, collections []uuid.UUID
		types, traces, parents, kinds      []string
		versions, partitions               []int32
		times                              []time.Time
		data                               []json.RawMessage
		offsets, positions                 []int64
		previous, hashes                   [][]byte
	)
	for _, m := range messages {
		e, err := event.Decode(m.Value)
		if err != nil {
			return nil, err
		}
		*position++
		hash := append(e.EventID[:], e.Entity.ID[:]...)
		ids, actors, entities = append(ids, e.EventID), append(actors, *e.ActorUserID), append(entities, e.Entity.ID)
		collections = append(collections, *e.Entity.CollectionID)
		types, kinds = append(types, string(e.EventType)), append(kinds, string(e.Entity.Type))
		traces, parents = append(traces, *e.TraceID), append(parents, string(m.Headers[0].Value))
		versions, partitions = append(versions, 1), append(partitions, m.Partition)
		times, data = append(times, e.OccurredAt), append(data, e.Data)
		offsets, positions = append(offsets, m.Offset), append(positions, *position)
		previous, hashes = append(previous, hash), append(hashes, hash)
	}
	return []any{
		ids, types, versions, times, actors, traces, parents, kinds, entities, collections, data, partitions, offsets, positions, previous, hashes,
	}, nil
}
