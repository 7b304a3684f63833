package kafka

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/IBM/sarama"
)

// Headers of a dead letter, beside those of the original record.
const (
	HeaderDLQReason    = "dlq_reason"
	HeaderDLQTopic     = "dlq_source_topic"
	HeaderDLQPartition = "dlq_source_partition"
	HeaderDLQOffset    = "dlq_source_offset"
	HeaderDLQGroup     = "dlq_consumer_group"
)

// HeaderReplays says how often a record was a dead letter and was sent back to its topic. It stays with the record, also when that becomes a dead
// letter again.
const HeaderReplays = "dlq_replays"

// HeaderReplayed makes a record of the dead-letter topic a mark instead of a letter: the letter at this offset of the same partition was sent back.
const HeaderReplayed = "dlq_replayed"

// HeaderDLQLeft is on a letter that has no more of its record than this: how many bytes it has where it lies, at the source's offset. It was too large for
// the dead-letter topic with its headers.
const HeaderDLQLeft = "dlq_bytes_left"

// maxLetterBytes is what the producer lets through. What the topic takes is the broker's to say.
const maxLetterBytes = 64 << 20

// maxReason bounds what is kept of a reason, in bytes: it may quote a record that is as large as a topic takes.
const maxReason = 1000

// shorten cuts a reason.
func shorten(reason string) string {
	if len(reason) <= maxReason {
		return reason
	}
	return strings.ToValidUTF8(reason[:maxReason], "") + "…"
}

// deadLetters writes poison to the dead-letter topic.
type deadLetters struct {
	producer sarama.SyncProducer
	topic    string
	group    string
}

func newDeadLetters(opts Options) (*deadLetters, error) {
	cfg := NewProducerConfig(opts.ClientID + "-dlq")
	cfg.Producer.MaxMessageBytes = maxLetterBytes
	cfg.Producer.Flush.MaxMessages = 1 // a broker refuses a request whole, for one letter that is too large
	if err := opts.secure(cfg); err != nil {
		return nil, err
	}
	producer, err := sarama.NewSyncProducer(opts.Brokers, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect the Kafka producer: %w", err)
	}
	return &deadLetters{producer: producer, topic: DeadLetterTopic(opts.Topic), group: opts.Group}, nil
}

// Close closes the producer.
func (d *deadLetters) Close() error { return d.producer.Close() }

// send returns once every letter is acknowledged. The original key, value and headers are kept as they were, unless they are too large for the topic
// with what a letter adds.
func (d *deadLetters) send(poison []Poison) error {
	if len(poison) == 0 {
		return nil
	}
	letters := make([]*sarama.ProducerMessage, len(poison))
	for i := range poison {
		letters[i] = d.letter(&poison[i])
	}
	err := d.producer.SendMessages(letters)
	var failures sarama.ProducerErrors
	if errors.As(err, &failures) {
		err = nil
		for _, f := range failures {
			if errors.Is(f.Err, sarama.ErrMessageSizeTooLarge) {
				_, _, f.Err = d.producer.SendMessage(d.notice(f.Msg.Metadata.(*Poison))) //nolint:forcetypeassert // letter sets it
			}
			err = errors.Join(err, f.Err)
		}
	}
	if err != nil {
		return fmt.Errorf("write to the dead-letter topic %s: %w", d.topic, err)
	}
	return nil
}

func (d *deadLetters) letter(p *Poison) *sarama.ProducerMessage {
	m := &sarama.ProducerMessage{Topic: d.topic, Key: sarama.ByteEncoder(p.Message.Key), Value: sarama.ByteEncoder(p.Message.Value), Metadata: p}
	for _, h := range p.Message.Headers {
		m.Headers = append(m.Headers, *h)
	}
	m.Headers = append(m.Headers, d.headers(p)...)
	return m
}

// notice says where a record lies that is no letter itself.
func (d *deadLetters) notice(p *Poison) *sarama.ProducerMessage {
	size := len(p.Message.Key) + len(p.Message.Value)
	for _, h := range p.Message.Headers {
		size += len(h.Key) + len(h.Value)
	}
	return &sarama.ProducerMessage{Topic: d.topic, Headers: append(d.headers(p), sarama.RecordHeader{
		Key: []byte(HeaderDLQLeft), Value: strconv.AppendInt(nil, int64(size), 10),
	})}
}

func (d *deadLetters) headers(p *Poison) []sarama.RecordHeader {
	header := func(key, value string) sarama.RecordHeader {
		return sarama.RecordHeader{Key: []byte(key), Value: []byte(value)}
	}
	return []sarama.RecordHeader{
		header(HeaderDLQReason, p.Reason), header(HeaderDLQTopic, p.Message.Topic), header(HeaderDLQPartition, strconv.Itoa(int(p.Message.Partition))),
		header(HeaderDLQOffset, strconv.FormatInt(p.Message.Offset, 10)), header(HeaderDLQGroup, d.group),
	}
}
