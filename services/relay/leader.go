package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/atlas-platform/atlas/internal/postgres/db"
)

const pruneBatch = 5000

// leader reads and marks on the connection that holds the lock: when the connection dies, nothing more can be read, so nothing more is published.
// Only the wave that is on its way then may still arrive, after the next leader published the same events: a late duplicate, which consumers
// tell by event_id and version.
type leader struct {
	relay    *Relay
	queries  *db.Queries
	producer sarama.SyncProducer
	healthy  func()

	lastPrune time.Time
}

// run publishes until ctx is done, and then once more: whoever stops the relay has stopped its writers before. The work itself is not cut short
// by ctx, which would break the connection, but every statement has its limit.
func (l *leader) run(ctx context.Context) error {
	work := context.WithoutCancel(ctx)
	ticker := time.NewTicker(l.relay.cfg.PollInterval)
	defer ticker.Stop()
	for ended := false; ; {
		fetched, err := l.publish(work)
		if err != nil {
			return err
		}
		if ended {
			return ctx.Err()
		}
		l.healthy()
		l.relay.failure.Store(nil)
		if err := l.relay.limited(work, l.prune); err != nil {
			return err
		}
		if fetched == int(l.relay.cfg.BatchSize) && ctx.Err() == nil {
			continue // there is more
		}
		select {
		case <-ctx.Done():
			ended = true
		case <-ticker.C:
		case <-l.relay.nudges:
		}
	}
}

// publish sends one batch and marks what was acknowledged. It returns how many rows it found.
func (l *leader) publish(ctx context.Context) (int, error) {
	var rows []db.UnpublishedOutboxRow
	err := l.relay.limited(ctx, func(ctx context.Context) (err error) {
		rows, err = l.queries.UnpublishedOutbox(ctx, l.relay.cfg.BatchSize)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read the outbox: %w", err)
	}
	for _, wave := range waves(rows) {
		published, sendErr := l.send(wave)
		if len(published) > 0 {
			if err := l.mark(ctx, published); err != nil {
				return 0, errors.Join(sendErr, err)
			}
		}
		if sendErr != nil {
			return 0, sendErr
		}
	}
	return len(rows), nil
}

func (l *leader) mark(ctx context.Context, ids []int64) error {
	err := l.relay.limited(ctx, func(ctx context.Context) error { return l.queries.MarkPublished(ctx, ids) })
	if err != nil {
		return fmt.Errorf("mark events as published: %w", err)
	}
	l.relay.metrics.published.Add(float64(len(ids)))
	return nil
}

// send returns the ids of the rows that Kafka acknowledged.
func (l *leader) send(wave []db.UnpublishedOutboxRow) ([]int64, error) {
	messages := make([]*sarama.ProducerMessage, len(wave))
	for i := range wave {
		messages[i] = message(l.relay.cfg.Topic, &wave[i])
	}
	err := l.producer.SendMessages(messages)
	failed := map[*sarama.ProducerMessage]struct{}{}
	var perMessage sarama.ProducerErrors
	switch {
	case errors.As(err, &perMessage):
		for _, e := range perMessage {
			failed[e.Msg] = struct{}{}
		}
		err = fmt.Errorf("publish to Kafka: %w: %d of %d, first: %w", errPartial, len(perMessage), len(wave), perMessage[0].Err)
	case err != nil:
		return nil, fmt.Errorf("publish to Kafka: %w", err)
	}
	published := make([]int64, 0, len(wave))
	for i, m := range messages {
		if _, bad := failed[m]; !bad {
			published = append(published, wave[i].ID)
		}
	}
	return published, err
}

// waves cuts a batch so that no wave holds two events of one aggregate: the first wave has each aggregate's oldest event, the second its next,
// and so on. A wave is sent after the one before it was acknowledged in full. So an event that fails can't be overtaken by a later one of its
// aggregate, although Kafka's client may fail one message of a request and deliver the next.
func waves(rows []db.UnpublishedOutboxRow) [][]db.UnpublishedOutboxRow {
	seen := make(map[[16]byte]int, len(rows))
	var out [][]db.UnpublishedOutboxRow
	for _, row := range rows {
		n := seen[row.AggregateID]
		seen[row.AggregateID] = n + 1
		if n == len(out) {
			out = append(out, nil)
		}
		out[n] = append(out[n], row)
	}
	return out
}

// prune removes old rows, now and then.
func (l *leader) prune(ctx context.Context) error {
	now := time.Now()
	if now.Sub(l.lastPrune) < l.relay.cfg.PruneInterval {
		return nil
	}
	pruned, err := l.queries.PruneOutbox(ctx, now.Add(-l.relay.cfg.Retention), pruneBatch)
	if err != nil {
		return fmt.Errorf("prune the outbox: %w", err)
	}
	l.relay.metrics.pruned.Add(float64(pruned))
	if pruned < pruneBatch { // else: more of it after the next poll, so that publishing is never held up for long
		l.lastPrune = now
	}
	return nil
}
