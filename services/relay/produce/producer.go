// Package produce writes batches of records to a Kafka topic, idempotently and with all replicas' acknowledgement. Each partition gets one request at a
// time, which Kafka takes whole or not at all, and the next one only after that: so nothing overtakes what failed before it in its partition, which
// sarama's own producers can't promise. It also costs far less per record than they do.
package produce

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/atlas-platform/atlas/internal/pause"
)

// Limits of a request. Kafka takes batches of 1 MiB after compression by default; what it refuses is cut in halves.
const (
	maxBatchBytes  = 1 << 20
	maxRecordBytes = 16 << 20
	recordOverhead = 64 // of lengths and flags, generously
)

// Config sets up a producer. A zero value means the default.
type Config struct {
	RetryFor   time.Duration // how long Send tries to get over what passes; default 3 s
	MinBackoff time.Duration // default 20 ms
	MaxBackoff time.Duration // default 500 ms
}

// Producer writes to one topic. After an Outcome with an Err it must not be used again: Kafka may or may not have what was on its way, and the
// numbers that tell the difference end with the producer.
type Producer struct {
	cfg       Config
	client    sarama.Client
	topic     string
	id        int64
	epoch     int16
	sequences map[int32]int32 // the next one, by partition
}

// Outcome says what became of the records that were sent, by their index.
type Outcome struct {
	// Sent are those that Kafka has.
	Sent []int
	// Refused are those that Kafka will never take, with its reason.
	Refused map[int]error
	// Err is why the others, if any, are not sent.
	Err error
}

// New connects to the brokers of the client, which the producer owns from then on, and gets an identity from them.
func New(client sarama.Client, topic string, cfg Config) (*Producer, error) {
	cfg.RetryFor, cfg.MinBackoff, cfg.MaxBackoff = cmp.Or(cfg.RetryFor, 3*time.Second), cmp.Or(cfg.MinBackoff, 20*time.Millisecond),
		cmp.Or(cfg.MaxBackoff, 500*time.Millisecond)
	identity, err := client.InitProducerID()
	if err != nil {
		_ = client.Close() // nothing is pending
		return nil, fmt.Errorf("get a producer id from Kafka: %w", err)
	}
	return &Producer{
		cfg: cfg, client: client, topic: topic, id: identity.ProducerID, epoch: identity.ProducerEpoch, sequences: map[int32]int32{},
	}, nil
}

// Close ends the connections.
func (p *Producer) Close() error { return p.client.Close() }

// Send writes the records, each keyed, to the partitions of their keys. Records of one partition keep their order: what comes after one that could not
// be sent is not sent either. Refused records don't hold up the others. It returns when all is decided; the end of ctx ends its retries.
func (p *Producer) Send(ctx context.Context, records []*sarama.Record) Outcome {
	out := Outcome{Sent: make([]int, 0, len(records))}
	lanes, err := p.divide(records, &out)
	if err != nil {
		out.Err = err
		return out
	}
	limit, wait := time.Now().Add(p.cfg.RetryFor), p.cfg.MinBackoff
	for len(lanes) > 0 {
		again := p.round(lanes, &out)
		if again != nil {
			if time.Now().After(limit) || ctx.Err() != nil {
				out.Err = again
				return out
			}
			if err := p.recover(ctx, wait); err != nil {
				out.Err = fmt.Errorf("%w, at last: %w", err, again)
				return out
			}
			wait = min(2*wait, p.cfg.MaxBackoff)
		}
		for partition, l := range lanes {
			if l.failed != nil {
				out.Err = l.failed
			}
			if l.failed != nil || len(l.chunks) == 0 {
				delete(lanes, partition)
			}
		}
	}
	return out
}

// recover waits and learns who leads the partitions now.
func (p *Producer) recover(ctx context.Context, wait time.Duration) error {
	if err := pause.For(ctx, wait); err != nil {
		return err
	}
	_ = p.client.RefreshMetadata(p.topic) // if it fails, so does the next round
	return nil
}

// divide groups the records by partition, and each partition's into chunks of a request.
func (p *Producer) divide(records []*sarama.Record, out *Outcome) (map[int32]*lane, error) {
	partitions, err := p.client.Partitions(p.topic)
	if err != nil {
		return nil, fmt.Errorf("find the partitions of %s: %w", p.topic, err)
	}
	lanes := make(map[int32]*lane, len(partitions))
	for i, r := range records {
		size := recordSize(r)
		if size > maxRecordBytes {
			out.refuse(i, sarama.ErrMessageSizeTooLarge)
			continue
		}
		partition := partitions[Partition(r.Key, len(partitions))]
		l := lanes[partition]
		if l == nil {
			l = &lane{}
			lanes[partition] = l
		}
		l.add(i, r, size)
	}
	return lanes, nil
}

// Partition is the index of a key's partition, as sarama's default partitioner has it.
func Partition(key []byte, partitions int) int {
	h := fnv.New32a()
	_, _ = h.Write(key)                       // never fails
	n := int32(h.Sum32()) % int32(partitions) //nolint:gosec // as sarama does it
	return int(max(n, -n))
}

func recordSize(r *sarama.Record) int {
	size := recordOverhead + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		size += len(h.Key) + len(h.Value) + 10
	}
	return size
}

// round sends the first chunk of every lane, all at once. It returns why some have to be sent again.
func (p *Producer) round(lanes map[int32]*lane, out *Outcome) (again error) {
	requests := map[*sarama.Broker][]int32{}
	for partition := range lanes {
		leader, err := p.client.Leader(p.topic, partition)
		if err != nil {
			again = fmt.Errorf("find the leader of %s/%d: %w", p.topic, partition, err)
			continue
		}
		requests[leader] = append(requests[leader], partition)
	}
	answers := make(map[*sarama.Broker]answer, len(requests))
	var (
		group sync.WaitGroup
		mu    sync.Mutex
	)
	for broker, partitions := range requests {
		request := &sarama.ProduceRequest{RequiredAcks: sarama.WaitForAll, Timeout: ackMilliseconds, Version: produceVersion}
		for _, partition := range partitions {
			request.AddBatch(p.topic, partition, lanes[partition].chunks[0].sealed(p, partition))
		}
		group.Go(func() {
			response, err := broker.Produce(request)
			mu.Lock()
			defer mu.Unlock()
			answers[broker] = answer{response, err}
		})
	}
	group.Wait()
	for broker, partitions := range requests {
		for _, partition := range partitions {
			if err := p.judge(lanes[partition], partition, answers[broker], out); err != nil {
				again = err
			}
		}
	}
	return again
}

// ackMilliseconds is how long the broker may wait for the other replicas.
const ackMilliseconds = 10_000

// produceVersion is the newest form of the request that sarama knows for the protocol that is asked for; it steps down to what the broker has.
const produceVersion = 9

type answer struct {
	response *sarama.ProduceResponse
	err      error
}

// judge settles the first chunk of a lane. It returns why the chunk has to be sent again as it is.
func (p *Producer) judge(l *lane, partition int32, a answer, out *Outcome) (again error) {
	sent := l.chunks[0]
	if a.err != nil {
		return fmt.Errorf("send to %s/%d: %w", p.topic, partition, a.err)
	}
	block := a.response.GetBlock(p.topic, partition)
	if block == nil {
		return fmt.Errorf("send to %s/%d: %w", p.topic, partition, sarama.ErrIncompleteResponse)
	}
	switch code := block.Err; {
	case code == sarama.ErrNoError, code == sarama.ErrDuplicateSequenceNumber:
		out.Sent = append(out.Sent, sent.indexes...)
		p.sequences[partition] = advanced(p.sequences[partition], len(sent.records))
		l.chunks = l.chunks[1:]
	case refusal(code) && len(sent.records) == 1:
		out.refuse(sent.indexes[0], reason(block))
		l.chunks = l.chunks[1:]
	case refusal(code): // Kafka took none: the halves tell whose fault it was
		l.chunks = append(sent.halves(), l.chunks[1:]...)
	case passing(code):
		return fmt.Errorf("send to %s/%d: %w", p.topic, partition, code)
	default:
		l.failed = fmt.Errorf("send to %s/%d: %w", p.topic, partition, reason(block))
	}
	return nil
}

// reason is the code, with what the broker says about it.
func reason(block *sarama.ProduceResponseBlock) error {
	if block.ErrorMessage != nil && *block.ErrorMessage != "" {
		return fmt.Errorf("%w: %s", block.Err, *block.ErrorMessage)
	}
	return block.Err
}

// refusal tells whether the broker holds something against the records themselves, which no retry changes.
func refusal(code sarama.KError) bool {
	return errors.Is(code, sarama.ErrMessageSizeTooLarge) || errors.Is(code, sarama.ErrMessageSetSizeTooLarge) || errors.Is(code, sarama.ErrInvalidRecord)
}

// passing tells whether a retry may help.
func passing(code sarama.KError) bool {
	switch code {
	case sarama.ErrInvalidMessage, sarama.ErrUnknownTopicOrPartition, sarama.ErrLeaderNotAvailable, sarama.ErrNotLeaderForPartition,
		sarama.ErrRequestTimedOut, sarama.ErrBrokerNotAvailable, sarama.ErrReplicaNotAvailable, sarama.ErrNetworkException, sarama.ErrNotEnoughReplicas,
		sarama.ErrNotEnoughReplicasAfterAppend, sarama.ErrKafkaStorageError, sarama.ErrFencedLeaderEpoch, sarama.ErrUnknownLeaderEpoch,
		sarama.ErrThrottlingQuotaExceeded:
		return true
	default:
		return false
	}
}

func (o *Outcome) refuse(index int, reason error) {
	if o.Refused == nil {
		o.Refused = map[int]error{}
	}
	o.Refused[index] = reason
}

// advanced is the sequence number after n more records; they wrap around, as Kafka expects.
func advanced(sequence int32, n int) int32 {
	return int32((int64(sequence) + int64(n)) & math.MaxInt32)
}
