package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/auditchain"
	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// lockNamespace is the first half of the advisory lock of a partition's chain.
const lockNamespace = auditchain.LockNamespace

// uniqueViolation is PostgreSQL's code for an event that the trail has, or that was pruned from it.
const uniqueViolation = "23505"

// maxTraceparent bounds what is taken from a header. Version 00 has 55 characters; later ones may have more.
const maxTraceparent = 128

// Writer appends events to the trail.
type Writer struct {
	pool     *pgxpool.Pool
	replayed atomic.Bool // the last batch held events that the trail has
}

// NewWriter makes a writer.
func NewWriter(pool *pgxpool.Pool) *Writer { return &Writer{pool: pool} }

var _ kafka.Handler = (*Writer)(nil)

// entry is one message and the event in it.
type entry struct {
	message *sarama.ConsumerMessage
	event   event.Envelope
}

// Handle implements kafka.Handler: one transaction for the batch. Event types that this program does not know are stored like any other.
func (w *Writer) Handle(ctx context.Context, batch []*sarama.ConsumerMessage) ([]kafka.Poison, error) {
	var poison []kafka.Poison
	entries := make([]entry, 0, len(batch))
	for _, msg := range batch {
		e, err := event.Decode(msg.Value)
		if err != nil {
			poison = append(poison, kafka.Poison{Message: msg, Reason: err.Error()})
			continue
		}
		if len(e.Data) == 0 {
			e.Data = []byte("{}")
		}
		entries = append(entries, entry{message: msg, event: e})
	}
	refused, err := w.store(ctx, entries)
	return append(poison, refused...), err
}

// store writes the entries. When PostgreSQL refuses a value for good (a NUL in a string, a number out of range), it halves the batch until the
// guilty entry is alone.
func (w *Writer) store(ctx context.Context, entries []entry) ([]kafka.Poison, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	err := w.appendToChain(ctx, entries)
	var pgErr *pgconn.PgError
	switch {
	case err == nil:
		return nil, nil
	case !errors.As(err, &pgErr) || !isAboutData(pgErr.Code):
		return nil, err
	case len(entries) == 1:
		return []kafka.Poison{{Message: entries[0].message, Reason: "refused by PostgreSQL: " + pgErr.Message}}, nil
	}
	half := len(entries) / 2
	first, err := w.store(ctx, entries[:half])
	if err != nil {
		return nil, err
	}
	second, err := w.store(ctx, entries[half:])
	return append(first, second...), err
}

// isAboutData tells SQLSTATE class 22 (data exception) and 54 (program limit exceeded) from failures that may pass.
func isAboutData(code string) bool { return len(code) == 5 && (code[:2] == "22" || code[:2] == "54") }

// appendToChain writes the entries in one transaction. As a rule none of them is known, and it takes two round trips: where the chain goes on, and
// the rows. PostgreSQL refuses rows of an event that is known; then, and as long as batches hold such events, those that are known are looked
// up first.
func (w *Writer) appendToChain(ctx context.Context, entries []entry) error {
	if !w.replayed.Load() {
		if fresh := withoutRepetitions(entries, nil); len(fresh) == len(entries) {
			err := w.try(ctx, entries, false)
			var pgErr *pgconn.PgError
			if !errors.As(err, &pgErr) || pgErr.Code != uniqueViolation {
				return err
			}
		}
		w.replayed.Store(true)
	}
	return w.try(ctx, entries, true) // another partition's consumer may store one of the events meanwhile: then the batch is tried again
}

func (w *Writer) try(ctx context.Context, entries []entry, look bool) error {
	conn, err := w.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Release() // ends a connection that is left within a transaction
	line := &pipeline{conn: conn}
	if err = w.transaction(ctx, line, entries, look); err != nil {
		line.rollback(ctx)
	}
	return err
}

func (w *Writer) transaction(ctx context.Context, line *pipeline, entries []entry, look bool) error {
	q, partition := db.New(line), entries[0].message.Partition
	line.queue("begin")
	if err := q.LockAuditChain(ctx, lockNamespace, partition); err != nil { // queued, so only its arguments can fail
		return fmt.Errorf("lock the chain of partition %d: %w", partition, err)
	}
	if look {
		known, err := q.KnownAuditEvents(ctx, sortedIDs(entries))
		if err != nil {
			return fmt.Errorf("look for known events: %w", err)
		}
		fresh := withoutRepetitions(entries, known)
		w.replayed.Store(len(fresh) < len(entries))
		if entries = fresh; len(entries) == 0 {
			line.queue("commit")
			return line.flush(ctx)
		}
	}
	raw := make([]string, len(entries))
	for i := range entries {
		raw[i] = string(entries[i].event.Data)
	}
	prepared, err := q.PrepareAuditEvents(ctx, raw, partition)
	if err != nil {
		return fmt.Errorf("normalise the events' data: %w", err)
	}
	rows := newRows(partition, len(entries))
	position, previous := prepared[0].ChainPosition, prepared[0].Hash
	for i := range entries {
		position++
		row := newRow(&entries[i], prepared[i].Data, position, rows.RecordedAt)
		hash := row.Hash(previous)
		add(&rows, &row, previous, hash)
		previous = hash
	}
	if err := q.InsertAuditEvents(ctx, rows); err != nil {
		return fmt.Errorf("insert audit rows: %w", err)
	}
	last := entries[len(entries)-1].message.Offset
	if err := q.MoveAuditHead(ctx, db.MoveAuditHeadParams{KafkaPartition: partition, ChainPosition: position, Hash: previous, KafkaOffset: last}); err != nil {
		return fmt.Errorf("move the head of the chain: %w", err)
	}
	line.queue("commit")
	if err := line.flush(ctx); err != nil {
		return fmt.Errorf("write audit rows: %w", err)
	}
	return nil
}

func sortedIDs(entries []entry) []uuid.UUID {
	ids := make([]uuid.UUID, len(entries))
	for i := range entries {
		ids[i] = entries[i].event.EventID
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return ids
}

// withoutRepetitions leaves out events that are known and those that came before in the batch.
func withoutRepetitions(entries []entry, known []uuid.UUID) []entry {
	seen := make(map[uuid.UUID]struct{}, len(entries)+len(known))
	for _, id := range known {
		seen[id] = struct{}{}
	}
	fresh := make([]entry, 0, len(entries))
	for _, e := range entries {
		if _, ok := seen[e.event.EventID]; !ok {
			seen[e.event.EventID] = struct{}{}
			fresh = append(fresh, e)
		}
	}
	return fresh
}

func newRows(partition int32, n int) db.InsertAuditEventsParams {
	return db.InsertAuditEventsParams{
		KafkaPartition: partition, RecordedAt: time.Now().UTC().Truncate(time.Microsecond),
		EventIds: make([]uuid.UUID, 0, n), EventTypes: make([]string, 0, n), Versions: make([]int32, 0, n), OccurredAts: make([]time.Time, 0, n),
		ActorUserIds: make([]string, 0, n), TraceIds: make([]string, 0, n), Traceparents: make([]string, 0, n),
		EntityTypes: make([]string, 0, n), EntityIds: make([]uuid.UUID, 0, n), CollectionIds: make([]string, 0, n), Data: make([]string, 0, n),
		KafkaOffsets: make([]int64, 0, n), ChainPositions: make([]int64, 0, n), PreviousHashes: make([][]byte, 0, n), Hashes: make([][]byte, 0, n),
	}
}

func newRow(e *entry, data string, position int64, recordedAt time.Time) auditchain.Row {
	row := auditchain.Row{
		EventID: e.event.EventID, EventType: string(e.event.EventType), Version: int32(e.event.Version), //nolint:gosec // Decode admits 1 only
		OccurredAt: e.event.OccurredAt.UTC().Truncate(time.Microsecond), ActorUserID: e.event.ActorUserID, TraceID: e.event.TraceID,
		EntityType: string(e.event.Entity.Type), EntityID: e.event.Entity.ID, CollectionID: e.event.Entity.CollectionID, Data: data,
		Partition: e.message.Partition, Offset: e.message.Offset, Position: position, RecordedAt: recordedAt,
	}
	if row.TraceID != nil && *row.TraceID == "" {
		row.TraceID = nil
	}
	if parent := traceparent(e.message); parent != "" {
		row.Traceparent = &parent
	}
	return row
}

// traceparent is the record's header, where it is one: the contract does not promise it, and anybody may write to the topic.
func traceparent(message *sarama.ConsumerMessage) string {
	for _, h := range message.Headers {
		if string(h.Key) == kafka.HeaderTraceparent && len(h.Value) <= maxTraceparent && utf8.Valid(h.Value) && bytes.IndexByte(h.Value, 0) < 0 {
			return string(h.Value)
		}
	}
	return ""
}

func add(rows *db.InsertAuditEventsParams, row *auditchain.Row, previous, hash []byte) {
	rows.EventIds = append(rows.EventIds, row.EventID)
	rows.EventTypes = append(rows.EventTypes, row.EventType)
	rows.Versions = append(rows.Versions, row.Version)
	rows.OccurredAts = append(rows.OccurredAts, row.OccurredAt)
	rows.ActorUserIds = append(rows.ActorUserIds, text(row.ActorUserID))
	var trace string
	if row.TraceID != nil {
		trace = *row.TraceID
	}
	rows.TraceIds = append(rows.TraceIds, trace)
	var parent string
	if row.Traceparent != nil {
		parent = *row.Traceparent
	}
	rows.Traceparents = append(rows.Traceparents, parent)
	rows.EntityTypes = append(rows.EntityTypes, row.EntityType)
	rows.EntityIds = append(rows.EntityIds, row.EntityID)
	rows.CollectionIds = append(rows.CollectionIds, text(row.CollectionID))
	rows.Data = append(rows.Data, row.Data)
	rows.KafkaOffsets = append(rows.KafkaOffsets, row.Offset)
	rows.ChainPositions = append(rows.ChainPositions, row.Position)
	rows.PreviousHashes = append(rows.PreviousHashes, previous)
	rows.Hashes = append(rows.Hashes, hash)
}

func text(id *uuid.UUID) string {
	if id == nil {
		return ""
	}
	return id.String()
}
