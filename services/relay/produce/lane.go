package produce

import (
	"time"

	"github.com/IBM/sarama"
)

// lane is what goes to one partition: chunks, each a request of its own, one after the other.
type lane struct {
	chunks []*chunk
	failed error // ends the lane
}

func (l *lane) add(index int, record *sarama.Record, size int) {
	if last := len(l.chunks) - 1; last < 0 || l.chunks[last].bytes+size > maxBatchBytes {
		l.chunks = append(l.chunks, &chunk{})
	}
	c := l.chunks[len(l.chunks)-1]
	c.indexes, c.records, c.bytes = append(c.indexes, index), append(c.records, record), c.bytes+size
}

// chunk is a batch of records that Kafka takes whole or not at all.
type chunk struct {
	indexes []int
	records []*sarama.Record
	bytes   int
	batch   *sarama.RecordBatch
}

// sealed is the batch with its place in the partition's sequence. It stays the same for every try: by that Kafka knows what it has already.
func (c *chunk) sealed(p *Producer, partition int32) *sarama.RecordBatch {
	if c.batch != nil {
		return c.batch
	}
	for i, r := range c.records {
		r.OffsetDelta = int64(i)
	}
	now := time.Now().Truncate(time.Millisecond)
	c.batch = &sarama.RecordBatch{
		Version: 2, Codec: p.client.Config().Producer.Compression, CompressionLevel: p.client.Config().Producer.CompressionLevel,
		FirstTimestamp: now, MaxTimestamp: now, LastOffsetDelta: int32(len(c.records) - 1), //nolint:gosec // a batch is small
		ProducerID: p.id, ProducerEpoch: p.epoch, FirstSequence: p.sequences[partition], Records: c.records,
	}
	return c.batch
}

func (c *chunk) halves() []*chunk {
	middle := len(c.records) / 2
	first, second := &chunk{indexes: c.indexes[:middle], records: c.records[:middle]}, &chunk{indexes: c.indexes[middle:], records: c.records[middle:]}
	return []*chunk{first, second}
}
