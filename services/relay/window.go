package relay

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// entry is a row of the outbox.
type entry struct {
	id                   int64
	eventID, aggregateID uuid.UUID
	payload, traceparent []byte
}

// window is one look at the outbox: what was committed at one moment, in id order. It comes in batches while it is read, because a look costs much
// beside a row, and holds back the server when they are not taken. Ids are given before the commit, so a smaller id may appear later than a bigger one;
// every look begins anew with the smallest that is there, never after a cursor. Within a look the events of an aggregate are in order and none is
// missing between them: its row is locked from before an event gets its id until the commit.
type window struct {
	batches chan []entry
	err     error // why reading ended early; to be read once batches is closed
}

// waiting is not among the generated queries, which collect all rows. All columns come in binary form.
const waiting = "SELECT id, event_id, aggregate_id, payload, traceparent FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT $1"

const waitingColumns = 5

// look begins to read. Once stop is closed, what nobody takes is passed over. The end of ctx ends the reading, and the connection with it.
func (l *leader) look(ctx context.Context, stop <-chan struct{}, limit int32) *window {
	w := &window{batches: make(chan []entry)}
	ctx, cancel := context.WithCancel(ctx)
	// The server may take QueryTimeout for every step; how long Kafka takes in between doesn't count.
	watch := time.AfterFunc(l.relay.cfg.QueryTimeout, cancel)
	deliver := func(batch []entry) {
		watch.Stop()
		defer watch.Reset(l.relay.cfg.QueryTimeout)
		select {
		case w.batches <- batch:
		case <-stop:
		case <-ctx.Done():
		}
	}
	go func() {
		defer close(w.batches)
		defer cancel()
		defer watch.Stop()
		if err := l.scan(ctx, limit, deliver); err != nil {
			w.err = fmt.Errorf("read the outbox: %w", err)
		}
	}()
	return w
}

// scan passes on the rows in batches. A batch ends with the row that fills it.
func (l *leader) scan(ctx context.Context, limit int32, deliver func([]entry)) error {
	binaryForm := make(pgx.QueryResultFormats, waitingColumns)
	for i := range binaryForm {
		binaryForm[i] = pgx.BinaryFormatCode
	}
	rows, err := l.reader.Query(ctx, waiting, binaryForm, limit)
	if err != nil {
		return err
	}
	defer rows.Close()
	var (
		batch []entry
		bytes int64
	)
	for rows.Next() {
		columns := rows.RawValues()
		e := entry{id: int64(binary.BigEndian.Uint64(columns[0]))} //nolint:gosec // as PostgreSQL sends a bigint
		copy(e.eventID[:], columns[1])
		copy(e.aggregateID[:], columns[2])
		// One piece of memory for both: they live and die together.
		text := append(append(make([]byte, 0, len(columns[3])+len(columns[4])), columns[3]...), columns[4]...)
		e.payload, e.traceparent = text[:len(columns[3]):len(columns[3])], text[len(columns[3]):]
		batch, bytes = append(batch, e), bytes+int64(len(e.payload))
		if len(batch) == int(l.relay.cfg.BatchSize) || bytes >= l.relay.cfg.BatchBytes {
			deliver(batch)
			batch, bytes = make([]entry, 0, len(batch)), 0
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if len(batch) > 0 {
		deliver(batch)
	}
	return nil
}
