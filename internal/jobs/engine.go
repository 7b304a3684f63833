// Package jobs is the engine of background work. A job is leased, not owned: a worker that dies or stalls loses its lease, another one goes on from
// the job's checkpoint, and the first can't finish it any more. Every change of state and its event are one transaction. docs/jobs.md draws the states.
package jobs

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atlas-platform/atlas/internal/pause"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// failurePause is how long the queue is not looked at after the database failed.
const failurePause = 2 * time.Second

// Config sets the pace of an engine. Zero values mean the defaults.
type Config struct {
	Concurrency    int           // jobs at the same time; default 4
	PollInterval   time.Duration // how often the queue is looked at unasked, more or less; default 2 s
	GatherInterval time.Duration // least time between two looks, and how long ended jobs are waited for before others are claimed; default 2 ms
	Lease          time.Duration // how long a silent worker keeps a job; default 30 s
	CancelInterval time.Duration // how often running jobs' cancels are looked for; default 400 ms
	RetryInitial   time.Duration // wait after the first failed attempt, doubled with each; default 2 s
	RetryMax       time.Duration // longest wait between attempts; default 5 min
	Measure        time.Duration // how often the backlog is measured; default 30 s
}

func (c Config) withDefaults() Config {
	c.Concurrency = cmp.Or(c.Concurrency, 4)
	c.PollInterval = cmp.Or(c.PollInterval, 2*time.Second)
	c.GatherInterval = cmp.Or(c.GatherInterval, 2*time.Millisecond)
	c.Lease = cmp.Or(c.Lease, 30*time.Second)
	c.CancelInterval = cmp.Or(c.CancelInterval, 400*time.Millisecond)
	c.RetryInitial = cmp.Or(c.RetryInitial, 2*time.Second)
	c.RetryMax = cmp.Or(c.RetryMax, 5*time.Minute)
	c.Measure = cmp.Or(c.Measure, 30*time.Second)
	return c
}

// Deps are what an engine uses. Registerer may be nil.
type Deps struct {
	Logger     *slog.Logger
	Pool       *pgxpool.Pool
	Registerer prometheus.Registerer
	// Tasks are the kinds of jobs that are run; others are left to other workers.
	Tasks []Task
}

// Engine runs jobs.
type Engine struct {
	cfg     Config
	deps    Deps
	queries *db.Queries
	clock   clock
	name    string
	tasks   map[string]Task
	kinds   map[string]Kind
	types   []string
	metrics *metrics
	waker   *Waker

	claims  atomic.Int64 // numbers the claims, for the owners of leases
	running sync.WaitGroup
	slots   chan struct{}
	freed   chan struct{}
	nudges  chan struct{}
	// waiting says that more jobs were due than slots were free.
	waiting bool
	leases  leases
	ended   chan *Execution
}

// clock is the time that an engine goes by.
type clock struct {
	// now measures durations within this process.
	now func() time.Time
	// at is the moment that goes into statements. It is nil but in tests: the database's clock rules, so that those of the workers don't matter.
	at func() *time.Time
}

// New makes an engine; Run starts it.
func New(cfg Config, deps Deps) *Engine {
	cfg = cfg.withDefaults()
	host, err := os.Hostname()
	if err != nil {
		host = "worker" // the id alone is unique
	}
	e := &Engine{
		cfg: cfg, deps: deps, queries: db.New(deps.Pool), clock: clock{now: time.Now, at: func() *time.Time { return nil }},
		name: host + "/" + uuid.NewString(), tasks: map[string]Task{}, kinds: map[string]Kind{}, metrics: newMetrics(deps.Registerer),
		waker: NewWaker(deps.Logger, deps.Pool),
		slots: make(chan struct{}, cfg.Concurrency), freed: make(chan struct{}, 1), nudges: make(chan struct{}, 1),
		// A slot is free when its job has ended. Jobs that end faster than they are settled are held up here.
		ended: make(chan *Execution, cfg.Concurrency),
	}
	e.leases.held = map[leaseKey]*Execution{}
	for _, task := range deps.Tasks {
		kind := task.Kind()
		e.tasks[kind.Name], e.kinds[kind.Name] = task, kind
		e.types = append(e.types, kind.Name)
	}
	return e
}

// Nudge tells the engine that a job was queued in this process. It never blocks.
func (e *Engine) Nudge() {
	select {
	case e.nudges <- struct{}{}:
	default: // one is pending already
	}
}

// Run works until ctx is done, then waits until every running job is finished or handed back.
func (e *Engine) Run(ctx context.Context) error {
	// What keeps and settles leases goes on until the last job has ended.
	living, die := context.WithCancel(context.WithoutCancel(ctx))
	defer die()
	var helpers, settling sync.WaitGroup
	helpers.Go(func() { listen(ctx, e.deps.Logger, e.deps.Pool, e.Nudge) })
	helpers.Go(func() { e.measure(ctx) })
	helpers.Go(func() { _ = e.waker.Run(living) }) // always nil
	helpers.Go(func() { e.keepLeases(living) })
	settling.Go(func() { e.settleAll(living) })

	e.work(ctx)
	e.running.Wait()
	close(e.ended)
	settling.Wait()
	die()
	helpers.Wait()
	return nil
}

// work claims jobs and starts them until ctx is done.
func (e *Engine) work(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-e.nudges:
		case <-e.freed:
			if !e.waiting {
				continue
			}
			if len(e.slots) > cap(e.slots)/2 {
				_ = pause.For(ctx, e.cfg.GatherInterval) // for others, which are claimed along; ctx is looked at above
			}
		}
		wait, err := e.look(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			e.deps.Logger.WarnContext(ctx, "looking for jobs failed", "error", err)
			_ = pause.For(ctx, failurePause) // ctx is looked at above
			wait = 0
		}
		if !e.waiting {
			_ = pause.For(ctx, e.cfg.GatherInterval) // nudges that come meanwhile are one; ctx is looked at above
		}
		timer.Reset(wait)
	}
}

// pollWait is the time to the next look that nobody asks for: spread, so that workers that start together don't look together.
func (e *Engine) pollWait() time.Duration {
	return e.cfg.PollInterval*3/4 + rand.N(e.cfg.PollInterval/2+1) //nolint:gosec // spreads load, guards nothing
}

// limited gives the database a third of a lease for what work does: with it in time, a lease is kept.
func (e *Engine) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, e.cfg.Lease/3)
}

// longestLater is how long a job that has to wait for something stays in the queue before it looks again.
const longestLater = 20 * time.Second

// retryWait is the wait after a failed attempt: doubled with each, between half and the whole of it, so that jobs that failed together don't
// come back together.
func (c Config) retryWait(attempt int32) time.Duration {
	wait := c.RetryInitial
	for i := int32(1); i < attempt && wait < c.RetryMax; i++ {
		wait *= 2
	}
	wait = min(wait, c.RetryMax)
	return wait/2 + rand.N(wait/2+1) //nolint:gosec // spreads load, guards nothing
}

// laterWait is the wait of a job that said Later, spread for the same reason.
func (c Config) laterWait() time.Duration {
	wait := min(longestLater, c.RetryMax)
	return wait/2 + rand.N(wait/2+1) //nolint:gosec // spreads load, guards nothing
}

// seconds is a duration that the database told.
func seconds(s float64) time.Duration {
	if s >= math.MaxInt32 {
		return math.MaxInt64
	}
	return time.Duration(s * float64(time.Second))
}
