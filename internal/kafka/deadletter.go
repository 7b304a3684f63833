package kafka

import (
	"fmt"
	"strconv"

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

// deadLetters writes poison to the dead-letter topic.
type deadLetters struct {
	producer sarama.SyncProducer
	topic    string
	group    string
}

func newDeadLetters(opts Options) (*deadLetters, error) {
	producer, err := NewProducer(opts.Brokers, opts.ClientID+"-dlq")
	if err != nil {
		return nil, err
	}
	return &deadLetters{producer: producer, topic: DeadLetterTopic(opts.Topic), group: opts.Group}, nil
}

// Close closes the producer.
func (d *deadLetters) Close() error { return d.producer.Close() }

// send returns once every letter is acknowledged. The original key and value are kept as they were.
func (d *deadLetters) send(poison []Poison) error {
	if len(poison) == 0 {
		return nil
	}
	letters := make([]*sarama.ProducerMessage, len(poison))
	for i, p := range poison {
		letter := &sarama.ProducerMessage{Topic: d.topic, Key: sarama.ByteEncoder(p.Message.Key), Value: sarama.ByteEncoder(p.Message.Value)}
		for _, h := range p.Message.Headers {
			letter.Headers = append(letter.Headers, *h)
		}
		add := func(key, value string) {
			letter.Headers = append(letter.Headers, sarama.RecordHeader{Key: []byte(key), Value: []byte(value)})
		}
		add(HeaderDLQReason, p.Reason)
		add(HeaderDLQTopic, p.Message.Topic)
		add(HeaderDLQPartition, strconv.Itoa(int(p.Message.Partition)))
		add(HeaderDLQOffset, strconv.FormatInt(p.Message.Offset, 10))
		add(HeaderDLQGroup, d.group)
		letters[i] = letter
	}
	if err := d.producer.SendMessages(letters); err != nil {
		return fmt.Errorf("write to the dead-letter topic %s: %w", d.topic, err)
	}
	return nil
}
