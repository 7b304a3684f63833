// Package kafka is how Atlas talks to Kafka: an idempotent producer, topics, and a consumer group that hands over batches and commits them
// once their work is done. It works against real brokers and against franz-go's kfake alike.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/IBM/sarama"

	"github.com/atlas-platform/atlas/internal/pause"
)

// Headers of an event's record. The envelope repeats all but the traceparent; headers spare a reader the decoding.
const (
	HeaderTraceparent = "traceparent"
	HeaderEventID     = "event_id"
	HeaderEventType   = "event_type"
)

// protocolVersion is the newest protocol that is asked for. sarama steps down to what the broker has.
var protocolVersion = sarama.V3_6_0_0

// NewConfig returns the settings that every Atlas client shares.
func NewConfig(clientID string) *sarama.Config {
	cfg := sarama.NewConfig()
	cfg.ClientID = clientID
	cfg.Version = protocolVersion
	cfg.Net.DialTimeout = 5 * time.Second
	cfg.Net.ReadTimeout = 15 * time.Second
	cfg.Net.WriteTimeout = 15 * time.Second
	cfg.Metadata.Retry.Max = 2
	cfg.Metadata.Retry.Backoff = 100 * time.Millisecond
	cfg.Metadata.AllowAutoTopicCreation = false
	return cfg
}

// NewProducerConfig returns settings under which the order of one key's messages survives retries and no retry makes a duplicate.
func NewProducerConfig(clientID string) *sarama.Config {
	cfg := NewConfig(clientID)
	cfg.Net.MaxOpenRequests = 1
	cfg.Producer.Idempotent = true
	cfg.Producer.RequiredAcks = sarama.WaitForAll
	cfg.Producer.Compression = sarama.CompressionLZ4
	cfg.Producer.Partitioner = sarama.NewHashPartitioner
	cfg.Producer.Retry.Max = 5
	cfg.Producer.Retry.Backoff = 50 * time.Millisecond
	cfg.Producer.Return.Successes = true
	cfg.Producer.Return.Errors = true
	return cfg
}

// NewProducer connects an idempotent producer. It fails when no broker answers.
func NewProducer(brokers []string, clientID string) (sarama.SyncProducer, error) {
	producer, err := sarama.NewSyncProducer(brokers, NewProducerConfig(clientID))
	if err != nil {
		return nil, fmt.Errorf("connect the Kafka producer: %w", err)
	}
	return producer, nil
}

// DeadLetterTopic is where the messages of a topic go that can never be handled.
func DeadLetterTopic(topic string) string { return topic + ".dlq" }

// TopicSpec is a topic to be there.
type TopicSpec struct {
	Name              string
	Partitions        int32
	ReplicationFactor int16
	Config            map[string]string
}

// EnsureTopic creates the topic when it is missing and waits until its partitions have leaders. An existing topic is left as it is.
func EnsureTopic(ctx context.Context, brokers []string, spec TopicSpec) error {
	admin, err := sarama.NewClusterAdmin(brokers, NewConfig("atlas-admin"))
	if err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	defer ignoreClose(admin)
	detail := &sarama.TopicDetail{NumPartitions: spec.Partitions, ReplicationFactor: spec.ReplicationFactor, ConfigEntries: map[string]*string{}}
	for name, value := range spec.Config {
		detail.ConfigEntries[name] = &value
	}
	if err := admin.CreateTopic(spec.Name, detail, false); err != nil && !errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return fmt.Errorf("create topic %s: %w", spec.Name, err)
	}
	// The broker answers before the topic can be used.
	for {
		topics, err := admin.DescribeTopics([]string{spec.Name})
		if err == nil && len(topics) == 1 && usable(topics[0]) {
			return nil
		}
		if err := pause.For(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("wait for topic %s: %w", spec.Name, err)
		}
	}
}

func usable(topic *sarama.TopicMetadata) bool {
	if !errors.Is(topic.Err, sarama.ErrNoError) || len(topic.Partitions) == 0 {
		return false
	}
	for _, p := range topic.Partitions {
		if p.Leader < 0 {
			return false
		}
	}
	return true
}

// ignoreClose closes what has nothing left to flush.
func ignoreClose(c io.Closer) { _ = c.Close() }
