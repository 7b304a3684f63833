package main

import (
	"context"
	"errors"
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

// contender is one of the things that a measurement compares: run works on so many connections for a while.
type contender struct {
	name string
	run  func(ctx context.Context, length time.Duration, connections int) (result, error)
}

// loop is a contender that does an operation over and over on each connection. Any error ends it: a failed request is no throughput.
func loop(name string, operation func(ctx context.Context) error) contender {
	return contender{name, func(ctx context.Context, length time.Duration, connections int) (result, error) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		latencies := make([][]time.Duration, connections)
		var group sync.WaitGroup
		begin := time.Now()
		for i := range connections {
			group.Go(func() {
				for last := time.Now(); last.Sub(begin) < length && ctx.Err() == nil; {
					if err := operation(ctx); err != nil {
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
		if err := context.Cause(ctx); err != nil {
			return result{}, err
		}
		return summarize(latencies, time.Since(begin))
	}}
}

// requests is a contender that sends requests on each connection.
func requests(name string, s source) contender {
	return contender{name, func(ctx context.Context, length time.Duration, connections int) (result, error) {
		return exchange(ctx, length, slices.Repeat([]source{s}, connections))
	}}
}

func summarize(latencies [][]time.Duration, took time.Duration) (result, error) {
	all := slices.Concat(latencies...)
	if len(all) == 0 {
		return result{}, errors.New("no operation ended")
	}
	slices.Sort(all)
	return result{perSecond: float64(len(all)) / took.Seconds(), p50: all[len(all)/2], p99: all[len(all)*99/100]}, nil
}

// compare runs the contenders in turns, so that what else the machine does hits all of them, and returns each one's median round.
func compare(ctx context.Context, o options, connections int, contenders ...contender) ([]result, error) {
	medians := make([]result, len(contenders))
	rounds := make([][]result, len(contenders))
	for range o.rounds {
		for i, c := range contenders {
			r, err := c.run(ctx, o.length, connections)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			rounds[i] = append(rounds[i], r)
		}
	}
	for i, all := range rounds {
		slices.SortFunc(all, func(a, b result) int { return int(a.perSecond - b.perSecond) })
		medians[i] = all[len(all)/2]
	}
	return medians, nil
}
