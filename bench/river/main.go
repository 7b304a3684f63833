// Command river is what the engine of background jobs is measured beside: River, with jobs that do nothing. bench/jobs.go starts it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

type noArgs struct{}

func (noArgs) Kind() string { return "no-op" }

type noWorker struct {
	river.WorkerDefaults[noArgs]
	started chan time.Time // may be nil
}

func (w *noWorker) Work(context.Context, *river.Job[noArgs]) error {
	if w.started != nil {
		w.started <- time.Now()
	}
	return nil
}

func main() {
	mode := flag.String("mode", "", "throughput, pickup or idle")
	jobs := flag.Int("jobs", 20_000, "jobs, or samples")
	workers := flag.Int("workers", 2_000, "jobs at the same time")
	length := flag.Duration("length", 10*time.Second, "how long it is idle")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *mode, *jobs, *workers, *length); err != nil {
		fmt.Fprintln(os.Stderr, "river:", err)
		os.Exit(1)
	}
}

// run prints seconds as JSON: one number, or a list of samples.
func run(ctx context.Context, mode string, jobs, workers int, length time.Duration) error {
	cfg, err := pgxpool.ParseConfig(os.Getenv("DATABASE_URL"))
	if err != nil {
		return errors.New("DATABASE_URL is not usable")
	}
	cfg.MaxConns = 12 // as the other one has
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	if _, err := pool.Exec(ctx, "TRUNCATE river_job"); err != nil {
		return err
	}
	var answer any
	switch mode {
	case "throughput":
		answer, err = throughput(ctx, pool, jobs, workers)
	case "pickup":
		answer, err = pickup(ctx, pool, jobs)
	case "idle":
		answer, err = 0, idle(ctx, pool, workers, length)
	default:
		err = errors.New("unknown -mode")
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(answer)
}

// newClient is River as it comes, but for cooldown unless it is zero.
func newClient(pool *pgxpool.Pool, worker *noWorker, workers int, cooldown time.Duration) (*river.Client[pgx.Tx], error) {
	registry := river.NewWorkers()
	river.AddWorker(registry, worker)
	cfg := &river.Config{
		Logger: slog.New(slog.DiscardHandler), Workers: registry, Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}},
		FetchCooldown: cooldown,
	}
	return river.NewClient(riverpgxv5.New(pool), cfg)
}

func throughput(ctx context.Context, pool *pgxpool.Pool, jobs, workers int) (float64, error) {
	client, err := newClient(pool, &noWorker{}, workers, 2*time.Millisecond) // its default of 100 ms would hold it back
	if err != nil {
		return 0, err
	}
	for left := jobs; left > 0; {
		batch := make([]river.InsertManyParams, min(left, 5_000))
		for i := range batch {
			batch[i].Args = noArgs{}
		}
		if _, err := client.InsertManyFast(ctx, batch); err != nil {
			return 0, err
		}
		left -= len(batch)
	}
	if _, err := pool.Exec(ctx, "VACUUM (ANALYZE) river_job"); err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := client.Start(ctx); err != nil {
		return 0, err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for left := true; left; {
		<-tick.C
		if err := pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM river_job WHERE state = 'available') OR EXISTS (SELECT FROM river_job WHERE state = 'running')").
			Scan(&left); err != nil {
			return 0, err
		}
	}
	took := time.Since(begin).Seconds()
	return took, client.Stop(ctx)
}

func pickup(ctx context.Context, pool *pgxpool.Pool, samples int) ([]float64, error) {
	worker := &noWorker{started: make(chan time.Time, 1)}
	client, err := newClient(pool, worker, 4, 0)
	if err != nil {
		return nil, err
	}
	if err := client.Start(ctx); err != nil {
		return nil, err
	}
	var out []float64
	for range samples {
		time.Sleep(50*time.Millisecond + rand.N(100*time.Millisecond))
		if _, err := client.Insert(ctx, noArgs{}, nil); err != nil {
			return nil, err
		}
		inserted := time.Now()
		out = append(out, max(0, (<-worker.started).Sub(inserted).Seconds()))
	}
	return out, client.Stop(ctx)
}

// idle runs as many clients as there are workers.
func idle(ctx context.Context, pool *pgxpool.Pool, clients int, length time.Duration) error {
	for range clients {
		client, err := newClient(pool, &noWorker{}, 4, 0)
		if err != nil {
			return err
		}
		if err := client.Start(ctx); err != nil {
			return err
		}
		defer client.Stop(ctx)
	}
	time.Sleep(length)
	return nil
}
