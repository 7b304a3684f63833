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
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/kafka"
)

const (
	pace         = 500 // writes a second
	paceWorkers  = 16
	latencyLimit = 25 * time.Millisecond
)

// measureLatency writes items at a steady pace through a replica that leads the relay and through one that doesn't, and times each event from its
// occurred_at, which is before the commit, until a consumer has it.
func measureLatency(ctx context.Context, o options, p *platformBundle, r *report) error {
	first, err := p.leads(ctx, p.ops)
	if err != nil {
		return err
	}
	if !first {
		return errors.New("the only replica does not lead the relay")
	}
	second, err := p.startReplica(ctx, o)
	if err != nil {
		return err
	}
	defer second.end()
	if leads, err := p.leads(ctx, second.ops); err != nil || leads {
		return errors.Join(err, errors.New("both replicas lead the relay"))
	}
	events, stop, err := p.consume()
	if err != nil {
		return err
	}
	defer stop()
	if _, _, err := p.paced(ctx, p.address, o.length, events); err != nil { // everybody's first time, Kafka's most of all, is not what is asked about
		return err
	}
	for _, replica := range []struct{ name, address string }{{"that leads", p.address}, {"that does not lead", second.address}} {
		latencies, requests, err := p.paced(ctx, replica.address, 3*o.length, events)
		if err != nil {
			return err
		}
		slices.Sort(requests)
		r.note(fmt.Sprintf("the writes themselves, on the replica %s: p50 %.1f ms, p99 %.1f ms", replica.name,
			ms(requests[len(requests)/2]), ms(requests[len(requests)*99/100])))
		slices.Sort(latencies)
		p50, p99 := latencies[len(latencies)/2], latencies[len(latencies)*99/100]
		r.limit(fmt.Sprintf("commit → consumable, %d writes/s on a replica %s", pace, replica.name),
			fmt.Sprintf("p50 %.1f ms, p99 %.1f ms", ms(p50), ms(p99)), p99 < latencyLimit, "p99 < 25 ms")
	}
	return nil
}

// replica is another API process on the same database.
type replica struct {
	process      *exec.Cmd
	address, ops string
}

func (p *platformBundle) startReplica(ctx context.Context, o options) (*replica, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	ops, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	other := &replica{process: exec.CommandContext(context.WithoutCancel(ctx), o.atlas, "api"), address: address, ops: ops} //nolint:gosec // the program to measure
	other.process.Env = append(slices.Clone(p.process.Env), "LISTEN_ADDR="+address, "OPS_ADDR="+ops)
	other.process.Stdout, other.process.Stderr = os.Stderr, os.Stderr
	if err := other.process.Start(); err != nil {
		return nil, fmt.Errorf("start a second replica: %w", err)
	}
	if err := waitFor(ctx, "http://"+address+"/readyz"); err != nil {
		other.end()
		return nil, err
	}
	return other, nil
}

func (r *replica) end() {
	_ = r.process.Process.Signal(os.Interrupt)
	_ = r.process.Wait()
}

// leads asks a replica's metrics.
func (p *platformBundle) leads(ctx context.Context, ops string) (bool, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ops+"/metrics", nil)
	if err != nil {
		return false, fmt.Errorf("make a request: %w", err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, fmt.Errorf("read the metrics: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return strings.Contains(string(text), "\natlas_relay_leading 1"), err
}

// arrival is when an event was there for a consumer.
type arrival struct {
	value []byte
	at    time.Time
}

// consume reads the topic's partitions from now on, as a consumer with sarama's defaults does.
func (p *platformBundle) consume() (<-chan arrival, func(), error) {
	consumer, err := sarama.NewConsumer(p.brokers, kafka.NewConfig("atlas-bench"))
	if err != nil {
		return nil, nil, fmt.Errorf("connect to Kafka: %w", err)
	}
	partitions, err := consumer.Partitions(p.topic)
	if err != nil {
		return nil, nil, fmt.Errorf("find the partitions: %w", err)
	}
	out := make(chan arrival, 1<<16)
	var readers sync.WaitGroup
	var claims []sarama.PartitionConsumer
	for _, n := range partitions {
		claim, err := consumer.ConsumePartition(p.topic, n, sarama.OffsetNewest)
		if err != nil {
			return nil, nil, fmt.Errorf("consume: %w", err)
		}
		claims = append(claims, claim)
		readers.Go(func() {
			for m := range claim.Messages() {
				out <- arrival{m.Value, time.Now()}
			}
		})
	}
	return out, func() {
		for _, c := range claims {
			c.AsyncClose()
		}
		readers.Wait()
		_ = consumer.Close()
	}, nil
}

// paced creates items at the pace and returns how long their events took, and the requests.
func (p *platformBundle) paced(ctx context.Context, address string, length time.Duration, events <-chan arrival) (latencies, requests []time.Duration, err error) {
	title := "paced " + address
	body := func() string {
		return fmt.Sprintf(`{"collection_id":%q,"title":%q,"content":%q}`, p.collection, title, content())
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: paceWorkers}}
	defer client.CloseIdleConnections()
	turns, failed := make(chan struct{}, pace), make(chan error, paceWorkers)
	var workers sync.WaitGroup
	took := make([][]time.Duration, paceWorkers)
	for i := range paceWorkers {
		workers.Go(func() {
			for range turns {
				begin := time.Now()
				if err := p.createOne(ctx, client, address, body()); err != nil {
					failed <- err
					return
				}
				took[i] = append(took[i], time.Since(begin))
			}
		})
	}
	total := int(length.Seconds() * pace)
	tick := time.NewTicker(time.Second / pace)
	for range total {
		<-tick.C
		turns <- struct{}{}
	}
	tick.Stop()
	close(turns)
	workers.Wait()
	select {
	case err := <-failed:
		return nil, nil, err
	default:
	}
	latencies = make([]time.Duration, 0, total)
	limit := time.After(30 * time.Second)
	for len(latencies) < total {
		select {
		case a := <-events:
			e, err := event.Decode(a.value)
			if err != nil {
				return nil, nil, err
			}
			if e.EventType == event.ItemCreated {
				latencies = append(latencies, a.at.Sub(e.OccurredAt))
			}
		case <-limit:
			return nil, nil, errors.New("events are missing: " + strconv.Itoa(total-len(latencies)) + " of " + strconv.Itoa(total))
		}
	}
	return latencies, slices.Concat(took...), nil
}

func (p *platformBundle) createOne(ctx context.Context, client *http.Client, address, body string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/v1/items", strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+p.accessToken)
	request.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("create an item: %w", err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	if answer.StatusCode != http.StatusCreated {
		return fmt.Errorf("create an item: status %s", answer.Status)
	}
	return nil
}
