package consistency

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// compareOutbox looks for the audit row of every published event that the outbox still keeps.
func (c *auditCheck) compareOutbox(ctx context.Context) error {
	for after := int64(0); ; {
		rows, err := c.queries.CheckOutbox(ctx, after, pageSize)
		if err != nil {
			return fmt.Errorf("read the outbox: %w", err)
		}
		if len(rows) == 0 {
			return c.events.decide(ctx)
		}
		after = rows[len(rows)-1].ID
		events := make(map[uuid.UUID]int64, len(rows))
		for _, row := range rows {
			events[row.EventID] = row.ID
		}
		missing, err := c.unaudited(ctx, events)
		if err != nil {
			return err
		}
		for _, place := range missing {
			if err := c.events.add(ctx, place); err != nil {
				return err
			}
		}
		c.report.Checked.Events += int64(len(rows))
		c.opts.Progress("outbox", c.report.Checked.Events)
	}
}

// unaudited returns the places in the outbox of those events that have no audit row.
func (c *auditCheck) unaudited(ctx context.Context, events map[uuid.UUID]int64) (map[uuid.UUID]int64, error) {
	ids := make([]uuid.UUID, 0, len(events))
	for id := range events {
		ids = append(ids, id)
	}
	known, err := c.queries.CheckAuditEvents(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("read the audit trail: %w", err)
	}
	for _, id := range known {
		delete(events, id)
	}
	return events, nil
}

func (c *auditCheck) lookEvents(ctx context.Context, places []int64) (map[int64]verdict, error) {
	rows, err := c.queries.CheckOutboxEvents(ctx, places)
	if err != nil {
		return nil, fmt.Errorf("read the outbox: %w", err)
	}
	events := make(map[uuid.UUID]int64, len(rows))
	for _, row := range rows {
		events[row.EventID] = row.ID
	}
	missing, err := c.unaudited(ctx, events)
	if err != nil {
		return nil, err
	}
	verdicts := make(map[int64]verdict, len(places))
	for _, row := range rows {
		if _, is := missing[row.EventID]; is {
			verdicts[row.ID] = verdict{findings: []finding{{AuditMissing, fmt.Sprintf("%s of %s", row.EventType, row.AggregateID)}}, name: row.EventID.String()}
		}
	}
	return verdicts, nil
}

func (c *auditCheck) eventsConfirmed(_ context.Context, wrong map[int64]verdict) error {
	for _, v := range wrong {
		for _, f := range v.findings {
			c.found.add(v.name, f)
		}
	}
	return nil
}
