package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/relay/produce"
)

// leader reads and settles on the connection that holds the lock: when the connection dies, nothing more can be read, so nothing more is published.
// Only the batch that is on its way then may still arrive, after the next leader published the same events: late duplicates, which consumers
// tell by event_id. The first copies of an aggregate's events are in order all the same, because that batch begins with what was not settled.
type leader struct {
	relay    *Relay
	queries  *db.Queries
	producer Producer
	healthy  func()
	// heard is when the last statement began that the server answered: the server holds the leadership for a lease from then on, at least.
	heard time.Time
}

// batch is what one look at the outbox found.
type batch struct {
	rows []db.NextOutboxRow
	ids  []int64
	full bool // there may be more
}

// run publishes until ctx is done, and then once more: whoever stops the relay has stopped its writers before. The work itself is not cut short
// by ctx, which would break the connection, but every statement has its limit.
func (l *leader) run(ctx context.Context) error {
	work := context.WithoutCancel(ctx)
	ticker := time.NewTicker(l.relay.cfg.PollInterval)
	defer ticker.Stop()
	var acked []int64 // in Kafka, not settled in the database
	for {
		last, began := ctx.Err() != nil, time.Now()
		found, err := l.read(work, l.relay.cfg.BatchSize, acked, nil)
		if err != nil {
			return err
		}
		if acked, err = l.stream(work, ctx.Done(), found); err != nil {
			return err
		}
		l.healthy()
		l.relay.failure.Store(nil)
		switch {
		case last:
			return errors.Join(l.settle(work, acked), ctx.Err())
		case len(found.rows) > 0:
			// Whatever comes in the meantime goes together: a look at the outbox and a request to Kafka cost much the same for one event and for twenty.
			_ = l.relay.pause(ctx, l.relay.cfg.GatherInterval-time.Since(began)) // ctx is looked at above
		default:
			select {
			case <-ctx.Done():
			case <-ticker.C:
			case <-l.relay.nudges:
			}
		}
	}
}

// stream sends a batch and, while there is a backlog, the ones after it: the next is read, and the one before settled, while Kafka works. It returns
// the events that are in Kafka and not settled yet.
func (l *leader) stream(ctx context.Context, stop <-chan struct{}, sending batch) (acked []int64, err error) {
	for len(sending.rows) > 0 {
		if err := l.hold(ctx); err != nil {
			return nil, err
		}
		sendCtx, cancel := context.WithCancel(ctx)
		outcome := make(chan produce.Outcome, 1)
		go func() { outcome <- l.producer.Send(sendCtx, records(sending.rows)) }()
		var ahead batch
		var readErr error
		if sending.full && !closed(stop) {
			if ahead, readErr = l.read(ctx, l.relay.cfg.BatchSize, acked, sending.ids); readErr == nil {
				acked = nil
			}
		}
		result, waitErr := l.await(ctx, outcome, cancel)
		cancel()
		if err := errors.Join(readErr, waitErr); err != nil {
			return nil, err
		}
		for _, i := range result.Sent {
			acked = append(acked, sending.ids[i])
		}
		l.relay.metrics.published.Add(float64(len(result.Sent)))
		if err := l.bury(ctx, sending, result.Refused); err != nil {
			return nil, err
		}
		if result.Err != nil {
			return nil, errors.Join(fmt.Errorf("publish to Kafka: %w", result.Err), l.settle(ctx, acked))
		}
		sending = ahead
	}
	return acked, nil
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// await waits for Kafka and keeps the leadership meanwhile. Once that is lost, sending ends as soon as it can.
func (l *leader) await(ctx context.Context, outcome <-chan produce.Outcome, cancel context.CancelFunc) (produce.Outcome, error) {
	ticker := time.NewTicker(l.relay.cfg.Lease / 4)
	defer ticker.Stop()
	var lost error
	for {
		select {
		case result := <-outcome:
			return result, lost
		case <-ticker.C:
			if lost == nil {
				if lost = l.hold(ctx); lost != nil {
					cancel()
				}
			}
		}
	}
}

// freshness is how old an answer of the server may be for a batch to be sent without asking again.
const freshness = 50 * time.Millisecond

// hold makes sure that the leadership is still there. The process may have been paused, and another relay lead since.
func (l *leader) hold(ctx context.Context) error {
	if time.Since(l.heard) < freshness {
		return nil
	}
	if err := l.do(ctx, l.queries.Ping); err != nil {
		return fmt.Errorf("hold the leadership: %w", err)
	}
	return nil
}

// do makes a statement, with its limit, and keeps in mind when the server was heard.
func (l *leader) do(ctx context.Context, statement func(context.Context) error) error {
	began := time.Now()
	err := l.relay.limited(ctx, statement)
	if err == nil {
		l.heard = began
	}
	return err
}

// read settles what Kafka has and returns what is to be sent next, but for what is on its way.
func (l *leader) read(ctx context.Context, rows int32, acked, onTheWay []int64) (batch, error) {
	params := db.NextOutboxParams{
		MaxRows: rows, MaxBytes: l.relay.cfg.BatchBytes, Remove: []int64{}, Mark: []int64{}, Skip: make([]int64, 0, len(acked)+len(onTheWay)),
	}
	params.Skip = append(append(params.Skip, acked...), onTheWay...)
	switch {
	case len(acked) == 0:
	case l.relay.cfg.Retention > 0:
		params.Mark = acked
	default:
		params.Remove = acked
	}
	var found batch
	err := l.do(ctx, func(ctx context.Context) (err error) {
		found.rows, err = l.queries.NextOutbox(ctx, params)
		return err
	})
	if err != nil {
		return batch{}, fmt.Errorf("settle and read the outbox: %w", err)
	}
	var bytes int64
	found.ids = make([]int64, len(found.rows))
	for i := range found.rows {
		found.ids[i] = found.rows[i].ID
		bytes += int64(len(found.rows[i].Payload))
	}
	found.full = len(found.rows) > 0 && (len(found.rows) == int(rows) || bytes >= l.relay.cfg.BatchBytes)
	return found, nil
}

func (l *leader) settle(ctx context.Context, acked []int64) error {
	if len(acked) == 0 {
		return nil
	}
	_, err := l.read(ctx, 0, acked, nil)
	return err
}

// bury moves what Kafka refuses for good to the dead letters. Later events of the same aggregate go on: consumers read the state from the database.
func (l *leader) bury(ctx context.Context, sent batch, refused map[int]error) error {
	for i, reason := range refused {
		err := l.do(ctx, func(ctx context.Context) error {
			_, err := l.queries.BuryOutbox(ctx, reason.Error(), sent.ids[i])
			return err
		})
		if err != nil {
			return fmt.Errorf("move an event to the dead letters: %w", err)
		}
		l.relay.metrics.deadLetters.Inc()
		l.relay.deps.Logger.ErrorContext(ctx, "Kafka refuses an event, it is among the dead letters", "event_id", sent.rows[i].EventID,
			"aggregate_id", sent.rows[i].AggregateID, "reason", reason)
	}
	return nil
}
