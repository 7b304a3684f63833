package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atlas-platform/atlas/internal/pause"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/relay/produce"
)

// leader settles on the connection that holds the lock, and makes sure of it before every batch: when it dies, nothing more is published. Only the
// batch that is on its way then may still arrive, after the next leader published the same events: late duplicates, which consumers tell by event_id.
// The first copies of an aggregate's events are in order all the same, because what was not settled is what the next leader begins with.
type leader struct {
	relay    *Relay
	queries  *db.Queries // on the connection that holds the lock
	reader   *pgx.Conn   // another one: the outbox is read while what was read before is settled
	producer Producer
	healthy  func()
	// heard is when the last statement began that the server answered: the server holds the leadership for a lease from then on, at least.
	heard time.Time
	// acked are the events that Kafka has and the outbox still holds; it last forgot some at settled.
	acked   []int64
	settled time.Time
}

// run publishes until ctx is done, and then once more: whoever stops the relay has stopped its writers before. The work itself is not cut short
// by ctx, which would break the connection, but every statement has its limit.
func (l *leader) run(ctx context.Context) error {
	work := context.WithoutCancel(ctx)
	ticker := time.NewTicker(l.relay.cfg.PollInterval)
	defer ticker.Stop()
	for {
		last, began, rows, stop := ctx.Err() != nil, time.Now(), windowBatches*l.relay.cfg.BatchSize, ctx.Done()
		if last {
			rows, stop = l.relay.cfg.BatchSize, nil
		}
		seen, sent, err := l.stream(work, stop, rows)
		if err == nil && (sent == 0 || last) {
			err = l.settle(work)
		}
		if err != nil {
			return err
		}
		l.healthy()
		l.relay.failure.Store(nil)
		switch {
		case last:
			return ctx.Err()
		case seen >= rows: // there is more
		case sent > 0:
			// Whatever comes in the meantime goes together: a look at the outbox and a request to Kafka cost much the same for one event and for twenty.
			_ = pause.For(ctx, l.relay.cfg.GatherInterval-time.Since(began)) // ctx is looked at above
		default:
			select {
			case <-ctx.Done():
			case <-ticker.C:
			case <-l.relay.nudges:
			}
		}
	}
}

const (
	// windowBatches is how many batches are read at a look, at most.
	windowBatches = 10
	// settleInterval is how long an event may stay in the outbox that Kafka has, unless there are many or nothing else is to be done.
	settleInterval = 50 * time.Millisecond
)

// stream publishes what one look at the outbox finds. It returns how many events that were, and how many were not in Kafka before.
func (l *leader) stream(ctx context.Context, stop <-chan struct{}, rows int32) (seen, sent int32, err error) {
	ctx, cancel := context.WithCancel(ctx)
	known := make(map[int64]bool, len(l.acked))
	for _, id := range l.acked {
		known[id] = true
	}
	w := l.look(ctx, stop, rows)
	defer func() {
		cancel()
		for range w.batches { // until the reader has ended
		}
	}()
	if err := l.hold(ctx); err != nil { // while the server reads; this keeps the lease when there is nothing to settle, too
		return 0, 0, err
	}
	for batch := range w.batches {
		seen += int32(len(batch)) //nolint:gosec // at most rows
		batch = slices.DeleteFunc(batch, func(e entry) bool { return known[e.id] })
		if len(batch) == 0 {
			continue
		}
		if err = l.publish(ctx, batch); err != nil {
			return 0, 0, err
		}
		sent += int32(len(batch)) //nolint:gosec // at most rows
	}
	return seen, sent, w.err
}

// publish sends a batch, and settles what was sent before while Kafka works.
func (l *leader) publish(ctx context.Context, batch []entry) error {
	if err := l.hold(ctx); err != nil {
		return err
	}
	sendCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	outcome, began := make(chan produce.Outcome, 1), time.Now()
	go func() { outcome <- l.producer.Send(sendCtx, records(batch)) }()
	var settleErr error
	if len(l.acked) >= int(l.relay.cfg.BatchSize/2) || time.Since(l.settled) >= settleInterval {
		settleErr = l.settle(ctx)
	}
	result, waitErr := l.await(ctx, outcome, cancel)
	if err := errors.Join(settleErr, waitErr); err != nil {
		return err
	}
	for _, i := range result.Sent {
		l.acked = append(l.acked, batch[i].id)
	}
	l.recordSpans(ctx, batch, result.Sent, began)
	l.relay.metrics.published.Add(float64(len(result.Sent)))
	if err := l.bury(ctx, batch, result.Refused); err != nil {
		return err
	}
	if result.Err != nil {
		return errors.Join(fmt.Errorf("publish to Kafka: %w", result.Err), l.settle(ctx))
	}
	return nil
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

// settle has the outbox forget what Kafka has, or mark it, if it is to be kept for a while.
func (l *leader) settle(ctx context.Context) error {
	if len(l.acked) == 0 {
		return nil
	}
	err := l.do(ctx, func(ctx context.Context) error {
		if l.relay.cfg.Retention > 0 {
			return l.queries.MarkOutbox(ctx, l.acked)
		}
		return l.queries.RemoveOutbox(ctx, l.acked)
	})
	if err != nil {
		return fmt.Errorf("settle what was published: %w", err)
	}
	l.acked, l.settled = l.acked[:0], time.Now()
	return nil
}

// bury moves what Kafka refuses for good to the dead letters. Later events of the same aggregate go on: consumers read the state from the database.
func (l *leader) bury(ctx context.Context, sent []entry, refused map[int]error) error {
	for i, reason := range refused {
		err := l.do(ctx, func(ctx context.Context) error {
			_, err := l.queries.BuryOutbox(ctx, reason.Error(), sent[i].id)
			return err
		})
		if err != nil {
			return fmt.Errorf("move an event to the dead letters: %w", err)
		}
		l.relay.metrics.deadLetters.Inc()
		l.relay.deps.Logger.ErrorContext(ctx, "Kafka refuses an event, it is among the dead letters", "event_id", sent[i].eventID,
			"aggregate_id", sent[i].aggregateID, "reason", reason)
	}
	return nil
}
