package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

// options are the command's flags.
type options struct {
	atlas       string
	python      string
	rounds      int
	length      time.Duration
	connections int
	items       int
	scaleTo     int
	exported    int
	events      int
	reindexed   int
	behind      int
	river       string
	jobs        int
	workers     int
	trail       int
	only        string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var o options
	flag.StringVar(&o.atlas, "atlas", "bin/atlas", "the program to measure")
	flag.StringVar(&o.python, "python", "", "a Python with bench/fastapi/requirements.txt installed; empty leaves the rival out")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of each measurement, interleaved; the median counts")
	flag.DurationVar(&o.length, "length", 3*time.Second, "length of a round")
	flag.IntVar(&o.connections, "connections", 32, "connections of the throughput measurements; latencies are measured with 4")
	flag.IntVar(&o.items, "items", 10_000, "items that are there when it starts")
	flag.IntVar(&o.scaleTo, "scale", 1_000_000, "items at which the list page is measured again; 0 leaves it out")
	flag.IntVar(&o.exported, "export", 100_000, "items of the export; 0 leaves it out")
	flag.IntVar(&o.events, "events", 200_000, "events of the relay's backlog")
	flag.IntVar(&o.behind, "behind", 300_000, "events that a consumer has to catch up with; 0 leaves it out")
	flag.IntVar(&o.reindexed, "reindex", 200_000, "items of the index that is rebuilt; 0 leaves it out")
	flag.StringVar(&o.river, "river", "", "the program of bench/river; empty leaves the rival out")
	flag.IntVar(&o.jobs, "jobs", 30_000, "background jobs that are worked off")
	flag.IntVar(&o.workers, "workers", 2_000, "how many of them at the same time")
	flag.IntVar(&o.trail, "trail", 1_000_000, "events of the audit trail that is asked about; 0 leaves it out")
	flag.StringVar(&o.only, "only", "", "comma-separated measurements to run, of read, create, list, memory, export, audit, backlog, indexer, reindex, scale, relay, latency, jobs and trail; all by default")
	flag.Parse()
	if o.rounds < 1 || o.connections < 1 || o.items < 1_000 {
		return errors.New("want at least 1 round, 1 connection and 1000 items")
	}

	platform, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer platform.stop() //nolint:contextcheck // also after ctx is done
	figures := &report{out: os.Stdout}
	figures.begin(o)
	for _, m := range []struct {
		name    string
		measure func(context.Context, options, *platformBundle, *report) error
	}{
		{"export", measureSmallExport},
		{"scale", measureFew},
		{"read", measureRead},
		{"create", measureCreate},
		{"list", measureList},
		{"memory", measureMemory},
		{"indexer", measureIndexer},
		{"reindex", measureReindex},
		{"export", measureExport},
		{"audit", measureAudit},
		{"backlog", measureBacklog},
		{"scale", measureMany},
		{"relay", measureRelay},
		{"latency", measureLatency},
		{"jobs", measureJobs},
		{"trail", measureTrail},
	} {
		if o.only != "" && !slices.Contains(strings.Split(o.only, ","), m.name) {
			continue
		}
		if err := m.measure(ctx, o, platform, figures); err != nil {
			return err
		}
	}
	return figures.end()
}
