package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/pause"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/worker"
)

// What is wanted of the engine of background jobs.
const (
	jobsShare     = 1.0 // of River's throughput
	pickupP95     = 100 * time.Millisecond
	idleEngines   = 10
	idleQueries   = 20 // a second, of all of them
	jobsConns     = 12 // connections of either engine
	pickupSamples = 200
	idleLength    = 10 * time.Second
)

const noOp = "no-op"

// measureJobs compares the engine with River over jobs that do nothing: in one database, with the same number of workers and connections. Atlas writes
// an event for each change of a job's state as well.
func measureJobs(ctx context.Context, o options, p *platformBundle, r *report) error {
	url, err := p.database(ctx, p.server, p.names[0]+"_jobs")
	if err != nil {
		return err
	}
	pool, err := postgres.Open(ctx, url, jobsConns)
	if err != nil {
		return err
	}
	defer pool.Close()
	b := jobsBench{o, url, pool}
	if err := b.throughput(ctx, r); err != nil {
		return err
	}
	if err := b.pickup(ctx, r); err != nil {
		return err
	}
	return b.idle(ctx, r)
}

type jobsBench struct {
	o    options
	url  string
	pool *pgxpool.Pool
}

func (b *jobsBench) throughput(ctx context.Context, r *report) error {
	contenders := []contender{{fmt.Sprintf("no-op jobs, %d workers", b.o.workers), func(ctx context.Context, _ time.Duration, _ int) (result, error) {
		return b.drain(ctx)
	}}}
	if b.o.river != "" {
		contenders = append(contenders, contender{"River", func(ctx context.Context, _ time.Duration, _ int) (result, error) {
			var took float64
			err := b.askRiver(ctx, &took, "-mode", "throughput", "-jobs", strconv.Itoa(b.o.jobs), "-workers", strconv.Itoa(b.o.workers))
			return result{perSecond: float64(b.o.jobs) / took}, err
		}})
	}
	measured, err := compare(ctx, b.o, 1, contenders...)
	if err != nil {
		return err
	}
	if len(measured) == 1 {
		r.note(fmt.Sprintf("no-op jobs: %.0f/s; no rival without --river", measured[0].perSecond))
		return nil
	}
	r.ratio(contenders[0].name, contenders[1].name, measured[0].perSecond, measured[1].perSecond, jobsShare)
	return nil
}

// engine is one with a kind that does work.
func (b *jobsBench) engine(workers int, work func() error) *jobs.Engine {
	return jobs.New(jobs.Config{Concurrency: workers}, jobs.Deps{
		Logger: slog.New(slog.DiscardHandler), Pool: b.pool,
		Tasks: []jobs.Task{jobs.Func(jobs.Kind{Name: noOp}, func(context.Context, *jobs.Execution) (any, error) { return nil, work() })},
	})
}

type runner interface {
	Run(ctx context.Context) error
}

// runAll runs engines, or whole workers, until the function that it returns is called.
func runAll(ctx context.Context, all ...runner) (stop func()) {
	running, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	for _, r := range all {
		group.Go(func() { _ = r.Run(running) }) // always nil
	}
	return func() {
		cancel()
		group.Wait()
	}
}

// drain times how long an engine takes for a queue, from its start.
func (b *jobsBench) drain(ctx context.Context) (result, error) {
	if _, err := b.pool.Exec(ctx, "TRUNCATE jobs, outbox"); err != nil {
		return result{}, fmt.Errorf("empty the queue: %w", err)
	}
	rows := make([][]any, b.o.jobs)
	for i := range rows {
		rows[i] = []any{uuid.Must(uuid.NewV7()), noOp}
	}
	if _, err := b.pool.CopyFrom(ctx, pgx.Identifier{"jobs"}, []string{"id", "type"}, pgx.CopyFromRows(rows)); err != nil {
		return result{}, fmt.Errorf("fill the queue: %w", err)
	}
	if _, err := b.pool.Exec(ctx, "VACUUM (ANALYZE) jobs"); err != nil {
		return result{}, fmt.Errorf("analyse: %w", err)
	}
	begin := time.Now()
	stop := runAll(ctx, b.engine(b.o.workers, func() error { return nil }))
	defer stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for left := true; left; {
		<-tick.C
		err := b.pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM jobs WHERE state = 'QUEUED') OR EXISTS (SELECT FROM jobs WHERE state = 'RUNNING')").Scan(&left)
		if err != nil {
			return result{}, fmt.Errorf("look at the queue: %w", err)
		}
	}
	took := time.Since(begin)
	var events int
	if err := b.pool.QueryRow(ctx, "SELECT count(*) FROM outbox").Scan(&events); err != nil {
		return result{}, fmt.Errorf("count events: %w", err)
	}
	if events != 2*b.o.jobs {
		return result{}, fmt.Errorf("%d events for %d jobs", events, b.o.jobs)
	}
	return result{perSecond: float64(b.o.jobs) / took.Seconds()}, nil
}

// pickup is the time from a job's commit until a worker that had nothing to do has begun it.
func (b *jobsBench) pickup(ctx context.Context, r *report) error {
	started := make(chan time.Time, 1)
	stop := runAll(ctx, b.engine(4, func() error { started <- time.Now(); return nil }))
	waker := jobs.NewWaker(slog.New(slog.DiscardHandler), b.pool)
	waking, asleep := context.WithCancel(ctx)
	defer asleep()
	go func() { _ = waker.Run(waking) }() // always nil
	samples := make([]time.Duration, pickupSamples)
	for i := range samples {
		if err := pause.For(ctx, 50*time.Millisecond+rand.N(100*time.Millisecond)); err != nil { //nolint:gosec // idle in between
			stop()
			return err
		}
		err := postgres.InTx(ctx, b.pool, func(tx pgx.Tx) error {
			_, _, err := jobs.Enqueue(ctx, db.New(tx), jobs.NewJob{Type: noOp})
			return err
		})
		if err != nil {
			stop()
			return err
		}
		queued := time.Now()
		waker.Nudge()
		samples[i] = max(0, (<-started).Sub(queued))
	}
	stop()
	own := p95(samples)
	r.limit("a job's commit → begun by an idle worker, p95", fmt.Sprintf("%.1f ms", ms(own)), own < pickupP95, "< 100 ms")
	if b.o.river == "" {
		return nil
	}
	var theirs []float64
	if err := b.askRiver(ctx, &theirs, "-mode", "pickup", "-jobs", strconv.Itoa(pickupSamples)); err != nil {
		return err
	}
	rival := make([]time.Duration, len(theirs))
	for i, s := range theirs {
		rival[i] = time.Duration(s * float64(time.Second))
	}
	r.note(fmt.Sprintf("River picks a job up after %.1f ms at p95, with its defaults", ms(p95(rival))))
	return nil
}

func p95(samples []time.Duration) time.Duration {
	slices.Sort(samples)
	return samples[len(samples)*95/100]
}

// idle counts the database's transactions, each of which is one statement here, while engines have nothing to do.
func (b *jobsBench) idle(ctx context.Context, r *report) error {
	workers := make([]runner, idleEngines)
	for i := range workers {
		pool, err := pgxpool.New(ctx, b.url) // each has its own, as replicas do
		if err != nil {
			return fmt.Errorf("connect to the database: %w", err)
		}
		defer pool.Close()
		workers[i] = worker.New(worker.Config{}, worker.Deps{Logger: slog.New(slog.DiscardHandler), Pool: pool})
	}
	stop := runAll(ctx, workers...)
	own, err := b.transactions(ctx)
	stop()
	if err != nil {
		return err
	}
	r.limit(fmt.Sprintf("queries of %d idle workers together", idleEngines), fmt.Sprintf("%.1f/s", own), own < idleQueries, "< 20/s")
	if b.o.river == "" {
		return nil
	}
	ended := make(chan error, 1)
	go func() {
		var none int
		ended <- b.askRiver(ctx, &none, "-mode", "idle", "-workers", strconv.Itoa(idleEngines), "-length", (2 * idleLength).String())
	}()
	theirs, err := b.transactions(ctx)
	if err := errors.Join(err, <-ended); err != nil {
		return err
	}
	r.note(fmt.Sprintf("%d idle River clients together: %.1f transactions/s, with its defaults", idleEngines, theirs))
	return nil
}

// transactions returns how many there are a second, after a moment for whatever begins.
func (b *jobsBench) transactions(ctx context.Context) (float64, error) {
	if err := pause.For(ctx, 3*time.Second); err != nil {
		return 0, err
	}
	before, err := b.counted(ctx)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := pause.For(ctx, idleLength); err != nil {
		return 0, err
	}
	took := time.Since(begin)
	after, err := b.counted(ctx)
	return float64(after-before-1) / took.Seconds(), err // but for the question
}

func (b *jobsBench) counted(ctx context.Context) (n int64, err error) {
	err = b.pool.QueryRow(ctx, "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()").Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count transactions: %w", err)
	}
	return n, nil
}

// askRiver runs the rival and decodes its answer.
func (b *jobsBench) askRiver(ctx context.Context, answer any, args ...string) error {
	cmd := exec.CommandContext(ctx, b.o.river, args...) //nolint:gosec // a flag
	cmd.Env = append(os.Environ(), "DATABASE_URL="+b.url)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("run River: %w", err)
	}
	if err := json.Unmarshal(out, answer); err != nil {
		return errors.New("River's answer can't be read") //nolint:staticcheck // a name
	}
	return nil
}
