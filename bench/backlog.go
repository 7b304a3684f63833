package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/IBM/sarama"

	"github.com/atlas-platform/atlas/internal/kafka"
)

// measureBacklog has each consumer catch up with many events, and compares what it holds with what it held during the first tenth.
func measureBacklog(ctx context.Context, o options, p *platformBundle, r *report) error {
	if o.behind == 0 {
		return nil
	}
	url, err := p.database(ctx, p.server, p.names[0]+"_backlog")
	if err != nil {
		return err
	}
	audited := func(n int) ([]*sarama.ConsumerMessage, error) { return auditMessages(p, 0, 0, n) }
	if err := p.catchUp(ctx, o, r, "audit", []string{"DATABASE_URL=" + url}, audited); err != nil {
		return err
	}
	batches, err := p.itemBatches(ctx)
	if err != nil {
		return err
	}
	items := slices.Concat(batches...)
	next := 0
	changed := func(n int) ([]*sarama.ConsumerMessage, error) {
		ids := items[next%len(items):]
		next += min(n, len(ids))
		return itemMessages(p.collection, ids[:min(n, len(ids))], 1)
	}
	return p.catchUp(ctx, o, r, "indexer", []string{"DATABASE_URL=" + p.ownURL, "ELASTICSEARCH_INDEX=" + p.alias}, changed)
}

// catchUp runs a role on a topic that is full already.
func (p *platformBundle) catchUp(
	ctx context.Context, o options, r *report, role string, env []string, events func(n int) ([]*sarama.ConsumerMessage, error),
) error {
	topic := p.topic + ".behind-" + role
	defer p.deleteTopic(topic)
	if err := p.fill(ctx, topic, o.behind, events); err != nil {
		return err
	}
	ops, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	process := exec.CommandContext(context.WithoutCancel(ctx), o.atlas, role) //nolint:gosec // the program to measure
	process.Env = append(append(os.Environ(), "KAFKA_TOPIC="+topic, "KAFKA_GROUP_PREFIX="+topic, "OPS_ADDR="+ops, "LOG_LEVEL=warn"), env...)
	process.Stdout, process.Stderr = os.Stderr, os.Stderr
	if err := process.Start(); err != nil {
		return fmt.Errorf("start the %s: %w", role, err)
	}
	defer func() {
		_ = process.Process.Signal(syscall.SIGTERM)
		_ = process.Wait()
	}()
	begin := time.Now()
	few, err := watchMemory(process.Process.Pid, func() error { return handled(ctx, ops, o.behind/10) })
	if err != nil {
		return err
	}
	many, err := watchMemory(process.Process.Pid, func() error { return handled(ctx, ops, o.behind) })
	if err != nil {
		return err
	}
	r.note(fmt.Sprintf("%s, %d events behind: %.0f/s from Kafka", role, o.behind, float64(o.behind)/time.Since(begin).Seconds()))
	r.limit(fmt.Sprintf("RSS of the %s with %d events behind, beside its first tenth", role, o.behind), fmt.Sprintf("%.0f MiB, %.0f MiB", mib(many), mib(few)),
		mib(many) <= mib(few)+32, "flat")
	return nil
}

// handled waits until a consumer has handled so many messages.
func handled(ctx context.Context, ops string, want int) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if have, err := counter(ctx, "http://"+ops+"/metrics", "atlas_consumer_messages_total"); err == nil && have >= float64(want) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// counter is the sum of a metric's values.
func counter(ctx context.Context, url, name string) (sum float64, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, fmt.Errorf("make a request: %w", err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("read the metrics: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 2 && strings.HasPrefix(fields[0], name) {
			value, parseErr := strconv.ParseFloat(fields[1], 64)
			sum, err = sum+value, errors.Join(err, parseErr)
		}
	}
	return sum, err
}

// fill makes a topic with so many events.
func (p *platformBundle) fill(ctx context.Context, topic string, n int, events func(n int) ([]*sarama.ConsumerMessage, error)) error {
	err := kafka.EnsureTopic(ctx, p.brokers, kafka.TopicSpec{Name: topic, Partitions: auditPartitions, ReplicationFactor: 1})
	if err != nil {
		return err
	}
	producer, err := kafka.NewProducer(p.brokers, "atlas-bench")
	if err != nil {
		return err
	}
	defer producer.Close() //nolint:errcheck // nothing is pending
	for sent := 0; sent < n; {
		messages, err := events(min(5000, n-sent))
		if err != nil {
			return err
		}
		batch := make([]*sarama.ProducerMessage, len(messages))
		for i, m := range messages {
			batch[i] = &sarama.ProducerMessage{Topic: topic, Key: sarama.ByteEncoder(m.Key), Value: sarama.ByteEncoder(m.Value)}
			for _, h := range m.Headers {
				batch[i].Headers = append(batch[i].Headers, *h)
			}
		}
		if err := producer.SendMessages(batch); err != nil {
			return fmt.Errorf("fill the topic: %w", err)
		}
		sent += len(messages)
	}
	return nil
}

func (p *platformBundle) deleteTopic(name string) {
	if admin, err := sarama.NewClusterAdmin(p.brokers, kafka.NewConfig("atlas-bench")); err == nil {
		_ = admin.DeleteTopic(name)
		_ = admin.Close()
	}
}
