package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/prometheus/client_golang/prometheus"
)

// claims knows how far the consumer is in each partition that it owns, and how far the topic goes. It is a collector: its figures are those of the
// moment that they are asked for, so a partition that is stuck shows it.
type claims struct {
	lag, waiting *prometheus.Desc

	mu     sync.Mutex
	places map[topicPartition]*place
}

type topicPartition struct {
	topic     string
	partition int32
}

// place is how far the consumer is in one partition.
type place struct {
	mu        *sync.Mutex // of the claims
	known     bool        // whether next and end are
	unplaced  bool        // the group had no place here when the claim began
	next, end int64       // the next offset to handle, the next one to be written
	oldest    time.Time   // when what the batch at hand begins with occurred; zero when there is none
}

func newClaims() *claims {
	labels := []string{"topic", "partition"}
	return &claims{
		lag: prometheus.NewDesc("atlas_consumer_lag_messages", "Messages of an owned partition that are not handled yet.", labels, nil),
		waiting: prometheus.NewDesc("atlas_consumer_waiting_seconds",
			"Age of the oldest message of an owned partition that is being worked on, or waits for a dependency; 0 when there is none.", labels, nil),
		places: map[topicPartition]*place{},
	}
}

// begin notes where a claim starts. Where the group has no place yet, or one that has left the topic, it starts at the oldest record that is kept.
func (c *claims) begin(claim sarama.ConsumerGroupClaim) *place {
	p := &place{mu: &c.mu}
	if start := claim.InitialOffset(); start >= 0 {
		p.known, p.next, p.end = true, start, max(start, claim.HighWaterMarkOffset())
	} else {
		p.unplaced = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.places[topicPartition{claim.Topic(), claim.Partition()}] = p
	return p
}

// forget drops a partition that another consumer may own from now on.
func (c *claims) forget(topic string, partition int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.places, topicPartition{topic, partition})
}

// handled notes that everything before next is done.
func (p *place) handled(next, end int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known, p.next, p.end, p.oldest = true, next, max(p.end, end, next), time.Time{}
}

// waits notes that a batch is at hand.
func (p *place) waits(oldest time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.oldest = oldest
}

// refresh asks Kafka for the ends of the owned partitions, and for the beginnings of those where the group had no place: one request for each broker.
func (c *claims) refresh(ctx context.Context, client sarama.Client, logger *slog.Logger) error {
	ends, beginnings := map[string]map[int32]int64{}, map[string]map[int32]int64{}
	c.mu.Lock()
	for tp, p := range c.places {
		ask(ends, tp, sarama.OffsetNewest)
		if p.unplaced {
			ask(beginnings, tp, sarama.OffsetOldest)
		}
	}
	c.mu.Unlock()
	oldest, err := listOffsets(client, beginnings)
	if err != nil {
		return err
	}
	newest, err := listOffsets(client, ends)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for tp, p := range c.places {
		if begin, ok := oldest[tp]; ok && p.unplaced {
			p.unplaced = false
			if !p.known {
				p.known, p.next = true, begin
			}
			if begin > 0 { // it is a new group, or one that was away for longer than the topic keeps its records: Kafka does not tell which
				logger.WarnContext(ctx, "the group had no place in this partition: what the topic no longer keeps was not handled",
					"partition", tp.partition, "first_kept", begin)
			}
		}
		p.end = max(p.end, newest[tp])
	}
	return nil
}

func ask(query map[string]map[int32]int64, tp topicPartition, time int64) {
	if query[tp.topic] == nil {
		query[tp.topic] = map[int32]int64{}
	}
	query[tp.topic][tp.partition] = time
}

// listOffsets returns the offsets at the times that are asked for: milliseconds since 1970, sarama.OffsetOldest or sarama.OffsetNewest. A time after
// the last record gives -1.
func listOffsets(client sarama.Client, query map[string]map[int32]int64) (map[topicPartition]int64, error) {
	if len(query) == 0 {
		return nil, nil
	}
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		return nil, fmt.Errorf("ask for offsets: %w", err)
	}
	results, err := admin.ListOffsets(query, nil) // admin is not closed: that would close the client
	if err != nil {
		return nil, fmt.Errorf("ask for offsets: %w", err)
	}
	out := map[topicPartition]int64{}
	for topic, partitions := range results {
		for partition, result := range partitions {
			if result.Err != nil && !errors.Is(result.Err, sarama.ErrNoError) {
				return nil, fmt.Errorf("ask for the offsets of %s/%d: %w", topic, partition, result.Err)
			}
			out[topicPartition{topic, partition}] = result.Offset
		}
	}
	return out, nil
}

// Describe implements prometheus.Collector.
func (c *claims) Describe(out chan<- *prometheus.Desc) {
	out <- c.lag
	out <- c.waiting
}

// Collect implements prometheus.Collector.
func (c *claims) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for tp, p := range c.places {
		partition := strconv.Itoa(int(tp.partition))
		if p.known {
			out <- prometheus.MustNewConstMetric(c.lag, prometheus.GaugeValue, float64(max(p.end-p.next, 0)), tp.topic, partition)
		}
		var waiting float64
		if !p.oldest.IsZero() {
			waiting = max(time.Since(p.oldest).Seconds(), 0)
		}
		out <- prometheus.MustNewConstMetric(c.waiting, prometheus.GaugeValue, waiting, tp.topic, partition)
	}
}
