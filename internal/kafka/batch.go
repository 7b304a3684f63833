package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/IBM/sarama"
	"github.com/cenkalti/backoff/v5"

	"github.com/atlas-platform/atlas/internal/pause"
)

// member is the consumer's part in one generation of the group.
type member struct {
	consumer *Consumer
	letters  *deadLetters
	retry    *backoff.ExponentialBackOff // of the connection; a successful join resets it
	left     time.Time                   // when the generation before ended; zero for the first
	ended    time.Time                   // when this one did
}

// Setup implements sarama.ConsumerGroupHandler.
func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.retry.Reset()
	m.consumer.joined.Store(true)
	m.consumer.recover(connection)
	logger := m.consumer.opts.Logger.With("generation", session.GenerationID(), "partitions", session.Claims()[m.consumer.opts.Topic])
	if !m.left.IsZero() {
		logger = logger.With("paused", time.Since(m.left))
	}
	logger.InfoContext(session.Context(), "joined the consumer group")
	return nil
}

// Cleanup implements sarama.ConsumerGroupHandler.
func (m *member) Cleanup(session sarama.ConsumerGroupSession) error {
	m.ended = time.Now()
	m.consumer.joined.Store(false) // until the next generation begins, which takes a broker
	for topic, partitions := range session.Claims() {
		for _, p := range partitions {
			m.consumer.recover(p)
			m.consumer.claims.forget(topic, p)
		}
	}
	return nil
}

// ConsumeClaim implements sarama.ConsumerGroupHandler: it works through one partition, batch by batch. While a batch waits for a dependency
// nothing is taken from the claim, and sarama stops fetching that partition; heartbeats go on.
//
// When the session ends, the batch that is being worked on is still finished and committed, for HandOver at most: heartbeats go on until every
// claim has returned, so the partition is nobody else's before. A batch that waits for its next try is given back at once.
func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	ctx := session.Context()
	place := m.consumer.claims.begin(claim)
	for {
		batch := m.collect(ctx, claim)
		if len(batch) == 0 || !m.finish(ctx, place, batch) {
			return nil // uncommitted: the next owner of the partition does it again
		}
		last := batch[len(batch)-1]
		session.MarkMessage(last, "")
		session.Commit()
		place.handled(last.Offset+1, claim.HighWaterMarkOffset())
	}
}

// collect waits for a message, then takes what follows until the batch is full or nothing came for MaxWait in all. It returns nothing when
// the claim is over.
func (m *member) collect(ctx context.Context, claim sarama.ConsumerGroupClaim) []*sarama.ConsumerMessage {
	opts := m.consumer.opts
	var batch []*sarama.ConsumerMessage
	var size int
	var full <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-full:
			return batch
		case msg, open := <-claim.Messages():
			if !open {
				return nil
			}
			batch = append(batch, msg)
			size += len(msg.Key) + len(msg.Value)
			if len(batch) >= opts.MaxMessages || size >= opts.MaxBytes {
				return batch
			}
			if full == nil {
				timer := time.NewTimer(opts.MaxWait)
				defer timer.Stop() // once: full is set on the first message only
				full = timer.C
			}
		}
	}
}

// finish does the work of a batch, however often it takes. It returns false when the session ended before.
func (m *member) finish(ctx context.Context, place *place, batch []*sarama.ConsumerMessage) bool {
	if ctx.Err() != nil {
		return false // nothing is begun any more
	}
	c := m.consumer
	retry := c.newBackoff()
	first := batch[0]
	place.waits(c.opts.OccurredAt(first))
	work, cancel := m.outliving(ctx)
	defer cancel()
	for {
		started := time.Now()
		try, cancel := context.WithTimeout(work, c.opts.HandleTimeout)
		poison, err := c.handler.Handle(try, batch)
		cancel()
		for i := range poison {
			poison[i].Reason = shorten(poison[i].Reason)
		}
		if err == nil {
			err = m.letters.send(poison)
		}
		if err == nil {
			c.recover(first.Partition)
			c.metrics.batch(len(batch), len(poison), time.Since(started))
			recordSpans(ctx, c.opts.Group, batch, started)
			for _, msg := range batch {
				c.metrics.age.Observe(time.Since(c.opts.OccurredAt(msg)).Seconds())
			}
			for _, p := range poison {
				c.opts.Logger.ErrorContext(WithTrace(ctx, p.Message), "message moved to the dead-letter topic",
					"partition", p.Message.Partition, "offset", p.Message.Offset, "reason", p.Reason)
			}
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		c.fail(first.Partition, err)
		c.metrics.retries.Inc()
		wait := retry.NextBackOff()
		c.opts.Logger.WarnContext(ctx, "batch failed, will try again", "partition", first.Partition, "offset", first.Offset,
			"messages", len(batch), "wait", wait, "error", err)
		if pause.For(ctx, wait) != nil {
			return false
		}
	}
}

// outliving returns a context that ends HandOver after ctx, the session's; at once when the group has gone on without this member: then
// somebody else has the partition already.
func (m *member) outliving(ctx context.Context) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if !expelled(context.Cause(ctx)) {
			_ = pause.For(work, m.consumer.opts.HandOver) // ends with the work too
		}
		cancel()
	})
	return work, func() {
		stop()
		cancel()
	}
}

// expelled tells whether a session ended because the group does not know its member any more.
func expelled(cause error) bool {
	return errors.Is(cause, sarama.ErrUnknownMemberId) || errors.Is(cause, sarama.ErrIllegalGeneration) || errors.Is(cause, sarama.ErrFencedInstancedId)
}
