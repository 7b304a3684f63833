// Package dlq shows the dead letters, events that a consumer could never handle, and sends them back to their topic. That a letter was sent back is
// noted by a mark in the dead-letter topic itself, in the letter's partition, so that it lasts exactly as long as the letter.
package dlq

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/kafka"
)

// Config is the commands' configuration.
type Config struct {
	config.Kafka
	config.Log
}

// ID is a letter's place in the dead-letter topic.
type ID struct {
	Partition int32
	Offset    int64
}

// ParseID reads what String wrote: <partition>/<offset>.
func ParseID(s string) (ID, error) {
	partition, offset, ok := strings.Cut(s, "/")
	p, err := strconv.ParseInt(partition, 10, 32)
	o, err2 := strconv.ParseInt(offset, 10, 64)
	if !ok || err != nil || err2 != nil || p < 0 || o < 0 {
		return ID{}, fmt.Errorf("%q is no letter's id: want <partition>/<offset>, as `atlas dlq list` shows it", s)
	}
	return ID{Partition: int32(p), Offset: o}, nil
}

func (id ID) String() string { return fmt.Sprintf("%d/%d", id.Partition, id.Offset) }

// Letter is one dead letter.
type Letter struct {
	ID        string    `json:"id"`
	Time      time.Time `json:"time"` // when it became one
	Group     string    `json:"group"`
	Reason    string    `json:"reason"`
	EventID   string    `json:"event_id,omitempty"`
	EventType string    `json:"event_type,omitempty"`
	Source    string    `json:"source"` // topic/partition/offset
	// Replays is how often the record had been sent back before it became this letter; Replayed whether this letter was.
	Replays  int  `json:"replays"`
	Replayed bool `json:"replayed"`
	// Left is the size of a record that was too large to become a letter; it lies at Source only.
	Left int64 `json:"bytes_left,omitempty"`

	id      ID
	message *sarama.ConsumerMessage
}

// topic is where the letter came from.
func (l *Letter) topic() string { return kafka.Header(l.message, kafka.HeaderDLQTopic) }

// Filter chooses letters; a zero Filter chooses all that were not sent back yet.
type Filter struct {
	IDs    []ID
	Group  string // the consumer group, or how it ends: audit
	Reason string // a part of the reason
	Type   string // the event type
	// Replayed includes letters that were sent back already.
	Replayed bool
}

func (f *Filter) fits(l *Letter) bool {
	if len(f.IDs) > 0 {
		named := false
		for _, id := range f.IDs {
			named = named || id == l.id
		}
		if !named {
			return false
		}
	}
	return (f.Replayed || !l.Replayed) &&
		(f.Group == "" || l.Group == f.Group || strings.HasSuffix(l.Group, "-"+f.Group)) &&
		strings.Contains(strings.ToLower(l.Reason), strings.ToLower(f.Reason)) &&
		(f.Type == "" || l.EventType == f.Type)
}

func newLetter(msg *sarama.ConsumerMessage, replayed bool) *Letter {
	header := func(key string) string { return kafka.Header(msg, key) }
	l := &Letter{
		id: ID{msg.Partition, msg.Offset}, message: msg, Time: msg.Timestamp.UTC(), Group: header(kafka.HeaderDLQGroup), Reason: header(kafka.HeaderDLQReason),
		EventID: header(kafka.HeaderEventID), EventType: header(kafka.HeaderEventType), Replayed: replayed,
		Source: header(kafka.HeaderDLQTopic) + "/" + header(kafka.HeaderDLQPartition) + "/" + header(kafka.HeaderDLQOffset),
	}
	l.ID = l.id.String()
	l.Replays, _ = strconv.Atoi(header(kafka.HeaderReplays))          // none: never
	l.Left, _ = strconv.ParseInt(header(kafka.HeaderDLQLeft), 10, 64) // none: all of it is here
	return l
}

// box is the dead-letter topic, as it is when it is opened.
type box struct {
	client   sarama.Client
	consumer sarama.Consumer
	topic    string
	ends     map[int32]int64
	marks    map[ID]bool // letters that were sent back
}

// open connects and reads the marks. Whatever is written later is not looked at: a letter that is sent back and fails again does not come round.
func open(ctx context.Context, cfg config.Kafka) (*box, error) {
	b := &box{topic: kafka.DeadLetterTopic(cfg.Topic), ends: map[int32]int64{}, marks: map[ID]bool{}}
	settings := kafka.NewConfig("atlas-dlq")
	settings.ChannelBufferSize = 0 // letters may be large
	settings.Consumer.Return.Errors = true
	err := cfg.Secure(settings)
	if err != nil {
		return nil, err
	}
	if b.client, err = sarama.NewClient(cfg.Brokers, settings); err != nil {
		return nil, fmt.Errorf("connect to Kafka: %w", err)
	}
	partitions, err := b.client.Partitions(b.topic)
	if err != nil {
		b.close()
		return nil, fmt.Errorf("look for the dead-letter topic %s: %w", b.topic, err)
	}
	for _, p := range partitions {
		if b.ends[p], err = b.client.GetOffset(b.topic, p, sarama.OffsetNewest); err != nil {
			b.close()
			return nil, fmt.Errorf("ask for the end of %s/%d: %w", b.topic, p, err)
		}
	}
	if b.consumer, err = sarama.NewConsumerFromClient(b.client); err != nil {
		b.close()
		return nil, fmt.Errorf("make a consumer: %w", err)
	}
	err = b.read(ctx, sarama.OffsetOldest, func(msg *sarama.ConsumerMessage) error {
		if offset, err := strconv.ParseInt(kafka.Header(msg, kafka.HeaderReplayed), 10, 64); err == nil {
			b.marks[ID{msg.Partition, offset}] = true
		}
		return nil
	})
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *box) close() {
	if b.consumer != nil {
		_ = b.consumer.Close()
	}
	_ = b.client.Close()
}

// letters calls each for the letters that the filter chooses, partition by partition, the oldest first. One is in memory at a time.
func (b *box) letters(ctx context.Context, f Filter, each func(*Letter) error) error {
	return b.read(ctx, sarama.OffsetOldest, func(msg *sarama.ConsumerMessage) error {
		if kafka.Header(msg, kafka.HeaderReplayed) != "" {
			return nil
		}
		if l := newLetter(msg, b.marks[ID{msg.Partition, msg.Offset}]); f.fits(l) {
			return each(l)
		}
		return nil
	})
}

func (b *box) read(ctx context.Context, from int64, each func(*sarama.ConsumerMessage) error) error {
	for partition := range int32(len(b.ends)) { //nolint:gosec // partitions are numbered from 0
		if err := b.readPartition(ctx, partition, from, each); err != nil {
			return fmt.Errorf("read %s/%d: %w", b.topic, partition, err)
		}
	}
	return nil
}

// silence is how long a broker may owe the next record before the end.
const silence = 30 * time.Second

func (b *box) readPartition(ctx context.Context, partition int32, from int64, each func(*sarama.ConsumerMessage) error) error {
	oldest, err := b.client.GetOffset(b.topic, partition, sarama.OffsetOldest)
	if err != nil {
		return err
	}
	end := b.ends[partition]
	if from < oldest {
		from = oldest
	}
	if from >= end {
		return nil
	}
	claim, err := b.consumer.ConsumePartition(b.topic, partition, from)
	if err != nil {
		return err
	}
	defer func() { _ = claim.Close() }()
	timer := time.NewTimer(silence)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-claim.Errors():
			return err
		case <-timer.C:
			return fmt.Errorf("no record for %s", silence)
		case msg, open := <-claim.Messages():
			if !open {
				return errors.New("the partition was given up")
			}
			if err := each(msg); err != nil {
				return err
			}
			if msg.Offset >= end-1 {
				return nil
			}
			timer.Reset(silence)
		}
	}
}
