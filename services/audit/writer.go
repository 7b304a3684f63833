package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// lockNamespace is the first half of the advisory lock of a partition's chain: "audi" in ASCII.
const lockNamespace = 0x61756469

// Writer appends events to the trail.
type Writer struct {
	pool *pgxpool.Pool
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
	err := postgres.InTx(ctx, w.pool, func(tx pgx.Tx) error { return appendToChain(ctx, db.New(tx), entries) })
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

// errOverlap means that another partition's consumer stored one of the events at the same moment. Trying again sees it.
var errOverlap = errors.New("an event was stored by another consumer meanwhile")

func appendToChain(ctx context.Context, q *db.Queries, entries []entry) error {
	partition := entries[0].message.Partition
	if err := q.LockAuditChain(ctx, lockNamespace, partition); err != nil {
		return fmt.Errorf("lock the chain of partition %d: %w", partition, err)
	}
	fresh, err := withoutDuplicates(ctx, q, entries)
	if err != nil || len(fresh) == 0 {
		return err
	}
	position, previous := int64(0), Genesis()
	switch head, err := q.AuditChainHead(ctx, partition); {
	case err == nil:
		position, previous = head.ChainPosition, head.Hash
	case !errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("read the head of the chain: %w", err)
	}
	raw := make([]string, len(fresh))
	for i := range fresh {
		raw[i] = string(fresh[i].event.Data)
	}
	data, err := q.CanonicalJSON(ctx, raw)
	if err != nil {
		return fmt.Errorf("normalise the events' data: %w", err)
	}
	rows := db.InsertAuditEventsParams{KafkaPartition: partition, RecordedAt: time.Now().UTC().Truncate(time.Microsecond)}
	for i := range fresh {
		position++
		row := newRow(&fresh[i], data[i], position, rows.RecordedAt)
		hash := row.Hash(previous)
		add(&rows, &row, previous, hash)
		previous = hash
	}
	inserted, err := q.InsertAuditEvents(ctx, rows)
	if err != nil {
		return fmt.Errorf("insert audit rows: %w", err)
	}
	if inserted != int64(len(fresh)) {
		return errOverlap // rolled back: a skipped row would break the chain
	}
	return nil
}

// withoutDuplicates leaves out events that the trail has and repetitions within the batch.
func withoutDuplicates(ctx context.Context, q *db.Queries, entries []entry) ([]entry, error) {
	ids := make([]uuid.UUID, len(entries))
	for i := range entries {
		ids[i] = entries[i].event.EventID
	}
	known, err := q.KnownAuditEvents(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("look for known events: %w", err)
	}
	seen := make(map[uuid.UUID]struct{}, len(entries))
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
	return fresh, nil
}

func newRow(e *entry, data string, position int64, recordedAt time.Time) Row {
	row := Row{
		EventID: e.event.EventID, EventType: string(e.event.EventType), Version: int32(e.event.Version), //nolint:gosec // Decode admits 1 only
		OccurredAt: e.event.OccurredAt.UTC().Truncate(time.Microsecond), ActorUserID: e.event.ActorUserID, TraceID: e.event.TraceID,
		EntityType: string(e.event.Entity.Type), EntityID: e.event.Entity.ID, CollectionID: e.event.Entity.CollectionID, Data: data,
		Partition: e.message.Partition, Offset: e.message.Offset, Position: position, RecordedAt: recordedAt,
	}
	if row.TraceID != nil && *row.TraceID == "" {
		row.TraceID = nil
	}
	return row
}

func add(rows *db.InsertAuditEventsParams, row *Row, previous, hash []byte) {
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
