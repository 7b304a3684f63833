package dlq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// OutboxConfig is the commands' configuration for the letters of the outbox: events that Kafka refused, in the table outbox_dead_letters.
type OutboxConfig struct {
	config.Database
	config.Log
}

// OutboxFilter chooses letters of the outbox; a zero filter chooses all.
type OutboxFilter struct {
	IDs          []uuid.UUID // of events
	Reason, Type string
}

func (f *OutboxFilter) fits(l *db.ListOutboxDeadLettersRow) bool {
	return (len(f.IDs) == 0 || slices.Contains(f.IDs, l.EventID)) && (f.Type == "" || f.Type == l.EventType) &&
		strings.Contains(strings.ToLower(l.Reason), strings.ToLower(f.Reason))
}

// outboxLetter is how a letter of the outbox is listed.
type outboxLetter struct {
	ID          uuid.UUID       `json:"id"` // the event's
	Time        time.Time       `json:"time"`
	Reason      string          `json:"reason"`
	EventType   string          `json:"event_type"`
	AggregateID uuid.UUID       `json:"aggregate_id"`
	Bytes       int32           `json:"bytes,omitempty"`
	Traceparent *string         `json:"traceparent,omitempty"`
	Value       json.RawMessage `json:"value,omitempty"`
}

const (
	outboxPage  = 1000
	connections = 2
)

// eachOutbox calls each for the chosen letters, the newest first, until it returns false.
func eachOutbox(ctx context.Context, q *db.Queries, f OutboxFilter, each func(*db.ListOutboxDeadLettersRow) bool) error {
	var before *time.Time
	var beforeEvent *uuid.UUID
	for {
		rows, err := q.ListOutboxDeadLetters(ctx, before, beforeEvent, outboxPage)
		if err != nil {
			return fmt.Errorf("list the outbox's dead letters: %w", err)
		}
		for i := range rows {
			if f.fits(&rows[i]) && !each(&rows[i]) {
				return nil
			}
		}
		if len(rows) < outboxPage {
			return nil
		}
		last := rows[len(rows)-1]
		before, beforeEvent = &last.FailedAt, &last.EventID
	}
}

// ListOutbox writes the newest letters of the outbox, the newest first.
func ListOutbox(ctx context.Context, cfg OutboxConfig, f OutboxFilter, o ListOptions, out io.Writer) error {
	pool, err := postgres.Open(ctx, cfg.URL, connections)
	if err != nil {
		return err
	}
	defer pool.Close()
	letters := []outboxLetter{}
	err = eachOutbox(ctx, db.New(pool), f, func(l *db.ListOutboxDeadLettersRow) bool {
		letters = append(letters, outboxLetter{
			ID: l.EventID, Time: l.FailedAt.UTC(), Reason: l.Reason, EventType: l.EventType, AggregateID: l.AggregateID, Bytes: l.PayloadBytes, Traceparent: l.Traceparent,
		})
		return len(letters) < o.Limit
	})
	if err != nil {
		return err
	}
	if o.JSON {
		return encode(out, letters)
	}
	if len(letters) == 0 {
		_, err := fmt.Fprintln(out, "no dead letters in the outbox")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tAGE\tTYPE\tBYTES\tREASON")
	for _, l := range letters {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", l.ID, age(o.Now().Sub(l.Time)), l.EventType, l.Bytes, line(l.Reason))
	}
	return w.Flush()
}

// ShowOutbox writes one letter of the outbox with its event, as JSON.
func ShowOutbox(ctx context.Context, cfg OutboxConfig, id uuid.UUID, out io.Writer) error {
	pool, err := postgres.Open(ctx, cfg.URL, connections)
	if err != nil {
		return err
	}
	defer pool.Close()
	l, err := db.New(pool).GetOutboxDeadLetter(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("there is no dead letter %s in the outbox", id)
	}
	if err != nil {
		return fmt.Errorf("read a dead letter of the outbox: %w", err)
	}
	return encode(out, outboxLetter{
		ID: l.EventID, Time: l.FailedAt.UTC(), Reason: l.Reason, AggregateID: l.AggregateID, Traceparent: l.Traceparent, Value: l.Payload,
	})
}

// ReplayOutbox puts the chosen letters back into the outbox, the oldest first: the relay publishes them. A letter that is back is no letter any more.
func ReplayOutbox(ctx context.Context, cfg OutboxConfig, f OutboxFilter, o ReplayOptions, out io.Writer) (Result, error) {
	result := Result{DryRun: o.DryRun, Letters: []string{}}
	pool, err := postgres.Open(ctx, cfg.URL, connections)
	if err != nil {
		return result, err
	}
	defer pool.Close()
	q := db.New(pool)
	var ids []uuid.UUID
	if err := eachOutbox(ctx, q, f, func(l *db.ListOutboxDeadLettersRow) bool {
		ids = append(ids, l.EventID)
		return true
	}); err != nil {
		return result, err
	}
	for _, id := range f.IDs {
		if !slices.Contains(ids, id) {
			return result, fmt.Errorf("letter %s is not in the outbox, or the filters exclude it: nothing was sent back", id)
		}
	}
	slices.Reverse(ids)
	for chunk := range slices.Chunk(ids, outboxPage) {
		requeued := int64(len(chunk))
		if !o.DryRun {
			if requeued, err = q.RequeueOutboxDeadLetters(ctx, chunk); err != nil {
				return result, fmt.Errorf("put letters back into the outbox: %w", err)
			}
		}
		result.Records += int(requeued)
		for _, id := range chunk {
			result.Letters = append(result.Letters, id.String())
		}
	}
	return result, result.write(out, o.JSON)
}
