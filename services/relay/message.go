package relay

import (
	"encoding/json"

	"github.com/IBM/sarama"

	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// message makes the record of one outbox row: keyed by the aggregate, the payload byte for byte as it was committed.
func message(topic string, row *db.UnpublishedOutboxRow) *sarama.ProducerMessage {
	m := &sarama.ProducerMessage{
		Topic: topic, Key: sarama.StringEncoder(row.AggregateID.String()), Value: sarama.ByteEncoder(row.Payload),
		Headers: []sarama.RecordHeader{header(kafka.HeaderEventID, row.EventID.String())},
	}
	var head struct {
		EventType string `json:"event_type"`
	}
	// A payload without a type is published all the same: the consumers' dead-letter topic is where somebody will see it.
	if json.Unmarshal(row.Payload, &head) == nil && head.EventType != "" {
		m.Headers = append(m.Headers, header(kafka.HeaderEventType, head.EventType))
	}
	if row.Traceparent != nil {
		m.Headers = append(m.Headers, header(kafka.HeaderTraceparent, *row.Traceparent))
	}
	return m
}

func header(key, value string) sarama.RecordHeader {
	return sarama.RecordHeader{Key: []byte(key), Value: []byte(value)}
}
