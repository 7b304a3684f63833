package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/telemetry"
)

// WriteEvent adds an event to the outbox. Call it last in the write's transaction, after the aggregate's version was bumped: that update
// holds the row lock, so the outbox order agrees with the version order of any one aggregate.
func WriteEvent(ctx context.Context, q *db.Queries, e event.Envelope) error {
	row, err := OutboxRow(ctx, e)
	if err != nil {
		return err
	}
	if err := q.InsertOutbox(ctx, db.InsertOutboxParams(row)); err != nil {
		return fmt.Errorf("write %s to the outbox: %w", e.EventType, err)
	}
	return nil
}

// WriteEvents is WriteEvent for a write that changes many aggregates: their events get ascending places in one round trip.
func WriteEvents(ctx context.Context, q *db.Queries, events []event.Envelope) error {
	rows := make([]db.InsertOutboxManyParams, len(events))
	for i := range events {
		var err error
		if rows[i], err = OutboxRow(ctx, events[i]); err != nil {
			return err
		}
	}
	if _, err := q.InsertOutboxMany(ctx, rows); err != nil {
		return fmt.Errorf("write %d events to the outbox: %w", len(events), err)
	}
	return nil
}

// OutboxRow is what WriteEvent writes, for a statement that makes the outbox row itself.
func OutboxRow(ctx context.Context, e event.Envelope) (db.InsertOutboxManyParams, error) {
	payload, err := json.Marshal(e)
	if err != nil {
		return db.InsertOutboxManyParams{}, fmt.Errorf("encode %s: %w", e.EventType, err)
	}
	row := db.InsertOutboxManyParams{EventID: e.EventID, AggregateID: e.Entity.ID, Payload: payload}
	if t := telemetry.TraceFrom(ctx); t.Parent != "" {
		row.Traceparent = &t.Parent
	}
	return row, nil
}
