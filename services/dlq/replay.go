package dlq

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/IBM/sarama"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/kafka"
)

// replayBatch is how many letters are sent before they are marked.
const replayBatch = 100

// ReplayOptions say which letters Replay sends back.
type ReplayOptions struct {
	Filter
	DryRun bool
	JSON   bool
}

// Result is what Replay did, or would do.
type Result struct {
	DryRun  bool     `json:"dry_run"`
	Letters []string `json:"letters"` // ids
	// Records is how many records were sent: two groups' letters of the same record are sent once.
	Records int `json:"records"`

	discard bool
}

// Discard marks the chosen letters as done with, and sends nothing: for what can't be mended, or was seen to otherwise.
func Discard(ctx context.Context, cfg Config, o ReplayOptions, out io.Writer) (Result, error) {
	return replay(ctx, cfg, o, true, out)
}

// Replay sends the chosen letters back to the topic that they came from, with their key, value and headers, and marks them. A letter that is marked is
// left alone, unless the filter says otherwise. Should it be interrupted between the two, the letters at hand are sent again the next time: consumers
// bear duplicates.
func Replay(ctx context.Context, cfg Config, o ReplayOptions, out io.Writer) (Result, error) {
	return replay(ctx, cfg, o, false, out)
}

func replay(ctx context.Context, cfg Config, o ReplayOptions, discard bool, out io.Writer) (Result, error) {
	result := Result{DryRun: o.DryRun, Letters: []string{}, discard: discard}
	b, err := open(ctx, cfg.Kafka)
	if err != nil {
		return result, err
	}
	defer b.close()
	var producer sarama.SyncProducer
	if !o.DryRun {
		if producer, err = newProducer(cfg.Kafka, b.topic); err != nil {
			return result, err
		}
		defer func() { _ = producer.Close() }()
	}
	sent := map[string]bool{} // sources
	var batch []*Letter
	var left error
	flush := func() error {
		records, err := send(producer, b.topic, batch, sent, discard)
		if err != nil {
			return err
		}
		for _, l := range batch {
			result.Letters = append(result.Letters, l.ID)
		}
		result.Records += records
		batch = batch[:0]
		return nil
	}
	err = b.letters(ctx, o.Filter, func(l *Letter) error {
		if l.topic() != cfg.Topic {
			return fmt.Errorf("letter %s is from the topic %q, not from %s: set KAFKA_TOPIC to it", l.ID, l.topic(), cfg.Topic)
		}
		if l.Left > 0 && !discard {
			left = fmt.Errorf("letter %s can't be sent back: its record, %d bytes, was too large for the dead-letter topic and lies at %s only; "+
				"see to it there, then `atlas dlq discard %s`", l.ID, l.Left, l.Source, l.ID)
			return nil
		}
		if batch = append(batch, l); len(batch) < replayBatch {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return result, err
	}
	if left != nil {
		return result, errors.Join(result.write(out, o.JSON), left)
	}
	for _, id := range o.IDs {
		if !slices.Contains(result.Letters, id.String()) {
			return result, fmt.Errorf("letter %s was not found: it is not there, the filters exclude it, or it was sent back or discarded before (replay --again sends it once more)", id)
		}
	}
	return result, result.write(out, o.JSON)
}

func (r Result) write(out io.Writer, asJSON bool) error {
	if asJSON {
		return encode(out, r)
	}
	verb := "sent back"
	if r.discard {
		verb = "discarded"
	}
	if r.DryRun {
		verb = "would be " + verb
	}
	for _, id := range r.Letters {
		fmt.Fprintln(out, id)
	}
	if r.discard {
		_, err := fmt.Fprintf(out, "%d letters %s\n", len(r.Letters), verb)
		return err
	}
	_, err := fmt.Fprintf(out, "%d letters %s, in %d records\n", len(r.Letters), verb, r.Records)
	return err
}

// newProducer sends records to where their keys belong, and marks to the partition of their letter.
func newProducer(cfg config.Kafka, deadLetters string) (sarama.SyncProducer, error) {
	settings := kafka.NewProducerConfig("atlas-dlq")
	byKey := settings.Producer.Partitioner
	settings.Producer.Partitioner = func(topic string) sarama.Partitioner {
		if topic == deadLetters {
			return sarama.NewManualPartitioner(topic)
		}
		return byKey(topic)
	}
	if err := cfg.Secure(settings); err != nil {
		return nil, err
	}
	producer, err := sarama.NewSyncProducer(cfg.Brokers, settings)
	if err != nil {
		return nil, fmt.Errorf("connect the Kafka producer: %w", err)
	}
	return producer, nil
}

// send writes the records of a batch, then its marks. A nil producer only counts.
func send(producer sarama.SyncProducer, deadLetters string, batch []*Letter, sent map[string]bool, discard bool) (int, error) {
	var records, marks []*sarama.ProducerMessage
	for _, l := range batch {
		if !sent[l.Source] && !discard {
			sent[l.Source] = true
			records = append(records, record(l))
		}
		marks = append(marks, &sarama.ProducerMessage{
			Topic: deadLetters, Partition: l.id.Partition, Key: sarama.ByteEncoder(l.message.Key),
			Headers: []sarama.RecordHeader{{Key: []byte(kafka.HeaderReplayed), Value: strconv.AppendInt(nil, l.id.Offset, 10)}},
		})
	}
	if producer == nil || len(batch) == 0 {
		return len(records), nil
	}
	if err := producer.SendMessages(records); err != nil {
		return 0, fmt.Errorf("send letters back: %w", err)
	}
	if err := producer.SendMessages(marks); err != nil {
		return 0, fmt.Errorf("mark letters that were sent back (the next replay sends them again): %w", err)
	}
	return len(records), nil
}

// record is what became the letter, and how often it was sent back by now.
func record(l *Letter) *sarama.ProducerMessage {
	m := &sarama.ProducerMessage{Topic: l.topic(), Key: sarama.ByteEncoder(l.message.Key), Value: sarama.ByteEncoder(l.message.Value)}
	for _, h := range l.message.Headers {
		switch string(h.Key) {
		case kafka.HeaderDLQReason, kafka.HeaderDLQTopic, kafka.HeaderDLQPartition, kafka.HeaderDLQOffset, kafka.HeaderDLQGroup, kafka.HeaderReplays:
		default:
			m.Headers = append(m.Headers, *h)
		}
	}
	m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(kafka.HeaderReplays), Value: strconv.AppendInt(nil, int64(l.Replays)+1, 10)})
	return m
}
