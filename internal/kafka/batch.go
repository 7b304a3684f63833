package kafka

import (
	"context"
	"time"

	"github.com/IBM/sarama"
	"github.com/cenkalti/backoff/v5"
)

// member is the consumer's part in one generation of the group.
type member struct {
	consumer *Consumer
	letters  *deadLetters
	retry    *backoff.ExponentialBackOff // of the connection; a successful join resets it
}

// Setup implements sarama.ConsumerGroupHandler.
func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.retry.Reset()
	m.consumer.joined.Store(true)
	m.consumer.recover(connection)
	m.consumer.opts.Logger.InfoContext(session.Context(), "joined the consumer group",
		"generation", session.GenerationID(), "partitions", session.Claims()[m.consumer.opts.Topic])
	return nil
}

// Cleanup implements sarama.ConsumerGroupHandler.
func (m *member) Cleanup(session sarama.ConsumerGroupSession) error {
	m.consumer.joined.Store(false) // until the next generation begins, which takes a broker
	for topic, partitions := range session.Claims() {
		for _, p := range partitions {
			m.consumer.recover(p)
			m.consumer.metrics.forget(topic, p)
		}
	}
	return nil
}

// ConsumeClaim implements sarama.ConsumerGroupHandler: it works through one partition, batch by batch. While a batch waits for a dependency
// nothing is taken from the claim, and sarama stops fetching that partition; heartbeats go on.
func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	ctx := session.Context()
	for {
		batch := m.collect(ctx, claim)
		if len(batch) == 0 {
			return nil
		}
		if !m.finish(ctx, batch) {
			return nil // uncommitted: the next owner of the partition does it again
		}
		last := batch[len(batch)-1]
		session.MarkMessage(last, "")
		session.Commit()
		m.consumer.metrics.lag(last, claim.HighWaterMarkOffset())
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

// finish does the work of a batch, however often it takes. It returns false when ctx ended before.
func (m *member) finish(ctx context.Context, batch []*sarama.ConsumerMessage) bool {
	c := m.consumer
	retry := c.newBackoff()
	first := batch[0]
	for {
		started := time.Now()
		try, cancel := context.WithTimeout(ctx, c.opts.HandleTimeout)
		poison, err := c.handler.Handle(try, batch)
		cancel()
		if err == nil {
			err = m.letters.send(poison)
		}
		if err == nil {
			c.recover(first.Partition)
			c.metrics.batch(len(batch), len(poison), time.Since(started))
			for _, p := range poison {
				c.opts.Logger.ErrorContext(ctx, "message moved to the dead-letter topic",
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
		if pause(ctx, wait) != nil {
			return false
		}
	}
}
