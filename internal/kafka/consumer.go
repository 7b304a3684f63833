package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atlas-platform/atlas/internal/pause"
)

// Poison is a message that can never be handled, however often it is tried.
type Poison struct {
	Message *sarama.ConsumerMessage
	Reason  string // the beginning is kept: 1,000 bytes
}

// Handler does the work of one batch: messages of one partition, in offset order. It may be given the same messages again.
//
// An error means that a dependency is away: the same batch is tried again until it succeeds. The messages that Handle returns go to the
// dead-letter topic. Handle stops soon after ctx is done: then the partition belongs to another consumer, or soon will.
type Handler interface {
	Handle(ctx context.Context, batch []*sarama.ConsumerMessage) ([]Poison, error)
}

// HandlerFunc is a function that is a Handler.
type HandlerFunc func(ctx context.Context, batch []*sarama.ConsumerMessage) ([]Poison, error)

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, batch []*sarama.ConsumerMessage) ([]Poison, error) {
	return f(ctx, batch)
}

// Options set up a Consumer. Brokers, Topic and Group are required; a zero value elsewhere means the default.
type Options struct {
	Brokers  []string
	Topic    string
	Group    string
	ClientID string // default: the group's name

	// Secure sets up TLS and SASL in the settings of each new client; default: neither.
	Secure func(*sarama.Config) error

	MaxMessages int           // messages in a batch; default 500
	MaxBytes    int           // bytes of keys and values in a batch, not counting the last message; default 4 MiB
	MaxWait     time.Duration // how long a batch that is not full waits for more; default 20 ms

	// HandleTimeout is how long one try at a batch may take; default 2 min. It ends tries that wait for a dependency that hangs instead of
	// failing, so that /readyz tells and a new connection is made.
	HandleTimeout time.Duration

	// HandOver is how long a batch that is being worked on may still take when its partition is to go to another member, or when the
	// consumer stops; default 5 s. The group waits for it.
	HandOver time.Duration

	// AskInterval is how often Kafka is asked for a sign of life and for the topic's end; default 5 s. The lag is as of then.
	AskInterval time.Duration

	// OccurredAt says when what a message tells happened, for the age metrics; default: the record's timestamp.
	OccurredAt func(*sarama.ConsumerMessage) time.Time

	RetryInitial time.Duration // first wait after a failed batch; default 100 ms
	RetryMax     time.Duration // longest wait between two tries; default 10 s

	Logger     *slog.Logger          // default: none
	Registerer prometheus.Registerer // default: none
}

func (o Options) withDefaults() Options {
	o.ClientID = cmp.Or(o.ClientID, o.Group)
	o.MaxMessages = cmp.Or(o.MaxMessages, 500)
	o.MaxBytes = cmp.Or(o.MaxBytes, 4<<20)
	o.MaxWait = cmp.Or(o.MaxWait, 20*time.Millisecond)
	o.HandleTimeout = cmp.Or(o.HandleTimeout, 2*time.Minute)
	o.HandOver = cmp.Or(o.HandOver, 5*time.Second)
	o.AskInterval = cmp.Or(o.AskInterval, 5*time.Second)
	o.RetryInitial = cmp.Or(o.RetryInitial, 100*time.Millisecond)
	o.RetryMax = cmp.Or(o.RetryMax, 10*time.Second)
	if o.OccurredAt == nil {
		o.OccurredAt = func(msg *sarama.ConsumerMessage) time.Time { return msg.Timestamp }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("group", o.Group, "topic", o.Topic)
	return o
}

// Consumer is one member of a consumer group.
type Consumer struct {
	opts    Options
	handler Handler
	metrics *metrics
	claims  *claims
	joined  atomic.Bool

	mu       sync.Mutex
	answered time.Time       // when Kafka last answered
	failures map[int32]error // by partition; connection is the whole consumer's
}

// maxSilence is how long Kafka may owe a sign of life. The group's own heartbeat gives up on a broker that hangs only after most of a minute.
const maxSilence = 15 * time.Second

// connection is the key of a failure that is not about one partition.
const connection int32 = -1

// NewConsumer makes a consumer; Run connects it.
func NewConsumer(opts Options, handler Handler) *Consumer {
	opts = opts.withDefaults()
	places := newClaims()
	return &Consumer{
		opts: opts, handler: handler, metrics: newMetrics(opts.Registerer, opts.Group, places), claims: places, failures: map[int32]error{},
	}
}

// Ready tells whether the consumer is a member of its group and none of its partitions has a batch that failed when it was last tried.
func (c *Consumer) Ready(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.failures[connection]; err != nil {
		return err
	}
	if silence := time.Since(c.answered); c.joined.Load() && silence > maxSilence {
		return fmt.Errorf("no answer from Kafka for %s", silence.Round(time.Second))
	}
	for _, partition := range slices.Sorted(maps.Keys(c.failures)) {
		return fmt.Errorf("partition %d waits: %w", partition, c.failures[partition])
	}
	if !c.joined.Load() {
		return errors.New("not a member of the consumer group yet")
	}
	return nil
}

// Run consumes until ctx is done, then finishes or abandons the batch at hand, leaves the group and returns nil. It waits for brokers that are
// away; it never gives up.
func (c *Consumer) Run(ctx context.Context) error {
	retry := c.newBackoff()
	for ctx.Err() == nil {
		if err := c.session(ctx, retry); err != nil && ctx.Err() == nil {
			c.fail(connection, err)
			c.opts.Logger.WarnContext(ctx, "consumer lost Kafka, will reconnect", "error", err)
			_ = pause.For(ctx, retry.NextBackOff()) // ctx is looked at above
		}
	}
	return nil
}

// session connects, joins and consumes until something breaks.
func (c *Consumer) session(ctx context.Context, retry *backoff.ExponentialBackOff) error {
	settings := c.groupConfig()
	if err := c.opts.secure(settings); err != nil {
		return err
	}
	client, err := sarama.NewClient(c.opts.Brokers, settings)
	if err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	defer ignoreClose(client) // again, where it is closed already: no harm
	letters, err := newDeadLetters(c.opts)
	if err != nil {
		return err
	}
	defer ignoreClose(letters)
	group, err := sarama.NewConsumerGroupFromClient(c.opts.Group, client)
	if err != nil {
		return fmt.Errorf("make the consumer group: %w", err)
	}
	c.heard()
	var background sync.WaitGroup
	asking, stopAsking := context.WithCancel(ctx)
	background.Go(func() { c.listen(asking, client) })
	background.Go(func() {
		for err := range group.Errors() {
			c.opts.Logger.WarnContext(ctx, "consumer group error", "error", err)
		}
	})
	defer func() {
		c.joined.Store(false)
		stopAsking()
		if err := group.Close(); err != nil {
			c.opts.Logger.WarnContext(ctx, "leaving the consumer group failed", "error", err)
		}
		ignoreClose(client) // ends a question that waits for an answer
		background.Wait()
	}()
	var left time.Time
	for ctx.Err() == nil {
		m := &member{consumer: c, letters: letters, retry: retry, left: left}
		// Consume returns at every rebalance.
		if err := group.Consume(ctx, []string{c.opts.Topic}, m); err != nil {
			return fmt.Errorf("consume: %w", err)
		}
		left = m.ended
	}
	return nil
}

// listen asks Kafka for a sign of life, and how far the topic has grown, again and again until ctx is done.
func (c *Consumer) listen(ctx context.Context, client sarama.Client) {
	for pause.For(ctx, c.opts.AskInterval) == nil {
		if client.RefreshMetadata(c.opts.Topic) != nil {
			continue // the silence speaks
		}
		c.heard()
		if err := c.claims.refresh(ctx, client, c.opts.Logger); err != nil && ctx.Err() == nil {
			c.opts.Logger.WarnContext(ctx, "asking for the topic's end failed: the lag is as of before", "error", err)
		}
	}
}

func (c *Consumer) heard() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answered = time.Now()
}

func (c *Consumer) groupConfig() *sarama.Config {
	cfg := NewConfig(c.opts.ClientID)
	cfg.Consumer.Return.Errors = true
	cfg.Consumer.Offsets.Initial = sarama.OffsetOldest
	// The batch loop marks and commits each batch when its work is done. The timer makes a commit again that was lost: nobody else would while no
	// further message comes, nor at the end of the session.
	cfg.Consumer.Offsets.AutoCommit.Enable = true
	cfg.Consumer.Offsets.AutoCommit.Interval = time.Second
	// A commit waits behind the fetch that is parked at the broker: this bounds the wait.
	cfg.Consumer.MaxWaitTime = 100 * time.Millisecond
	boundMemory(cfg)
	// Sticky, not cooperative: docs/decisions/0015-sticky-assignment.md.
	cfg.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategySticky()}
	cfg.Consumer.Group.Session.Timeout = 10 * time.Second
	cfg.Consumer.Group.Heartbeat.Interval = 2 * time.Second
	return cfg
}

func (o *Options) secure(settings *sarama.Config) error {
	if o.Secure == nil {
		return nil
	}
	return o.Secure(settings)
}

func (c *Consumer) newBackoff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = c.opts.RetryInitial, c.opts.RetryMax
	b.Reset()
	return b
}

func (c *Consumer) fail(partition int32, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures[partition] = err
}

func (c *Consumer) recover(partition int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.failures, partition)
}
