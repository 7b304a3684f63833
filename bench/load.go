package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// result is what one round measured.
type result struct {
	perSecond float64
	p50, p99  time.Duration
}

// operation does one unit of work for one worker. A worker's operations never overlap.
type operation func(ctx context.Context) error

// load runs one operation per worker in a closed loop for a while. Any error ends it: a failed request is no throughput.
func load(ctx context.Context, length time.Duration, workers []operation) (result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	latencies := make([][]time.Duration, len(workers))
	var group sync.WaitGroup
	begin := time.Now()
	for i, work := range workers {
		group.Go(func() {
			for last := time.Now(); last.Sub(begin) < length && ctx.Err() == nil; {
				if err := work(ctx); err != nil {
					cancel(err)
					return
				}
				now := time.Now()
				latencies[i] = append(latencies[i], now.Sub(last))
				last = now
			}
		})
	}
	group.Wait()
	took := time.Since(begin)
	if err := context.Cause(ctx); err != nil {
		return result{}, err
	}
	all := slices.Concat(latencies...)
	if len(all) == 0 {
		return result{}, fmt.Errorf("no operation ended within %s", length)
	}
	slices.Sort(all)
	return result{
		perSecond: float64(len(all)) / took.Seconds(), p50: all[len(all)/2], p99: all[len(all)*99/100],
	}, nil
}

// contender is one of the things that a measurement compares.
type contender struct {
	name    string
	workers []operation
}

// compare runs the contenders in turns, so that what else the machine does hits all of them, and returns each one's median round.
func compare(ctx context.Context, o options, contenders ...contender) (map[string]result, error) {
	rounds := make(map[string][]result)
	for range o.rounds {
		for _, c := range contenders {
			r, err := load(ctx, o.length, c.workers)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			rounds[c.name] = append(rounds[c.name], r)
		}
	}
	medians := make(map[string]result, len(rounds))
	for name, all := range rounds {
		slices.SortFunc(all, func(a, b result) int { return int(a.perSecond - b.perSecond) })
		medians[name] = all[len(all)/2]
	}
	return medians, nil
}
