package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

const (
	simLease   = 30 * time.Second
	simLimit   = 2
	simWorkers = 3
	simSlots   = 4
)

// world is everything that happens to the engine in one history.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	pool    *pgxpool.Pool
	mu      sync.Mutex // of now
	now     time.Time
	workers []*simWorker
	started chan *simRun
	jobs    []uuid.UUID
	drained map[string]bool // owners of leases whose worker was told to end
	stopped map[string]bool // owners of leases, with the job, whose job was held meanwhile
}

// simWorker is an engine whose loops the test plays.
type simWorker struct {
	w      *world
	engine *Engine
	ctx    context.Context //nolint:containedctx // the process's
	stop   context.CancelFunc
	known  map[leaseKey]*simRun
	ended  []*Execution
}

// simRun is an attempt whose task does what it is told.
type simRun struct {
	ctx    context.Context //nolint:containedctx // the task's
	x      *Execution
	orders chan order
	done   chan struct{}
}

// order is what a task shall do next: end, or else save.
type order struct {
	result bool // and nothing else: succeed
	err    error
	panics bool
	save   int64
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 0)), pool: pgtest.New(t),
		now: time.Date(2026, 3, 28, 22, 0, 0, 0, time.UTC), started: make(chan *simRun),
		drained: map[string]bool{}, stopped: map[string]bool{},
	}
	w.exec(recorder)
	require.NoError(t, postgres.InTx(t.Context(), w.pool, func(tx pgx.Tx) error {
		for name, expression := range map[string]string{"minutely": "* * * * *", "now and then": "*/3 * * * *"} {
			_, err := putSchedule(t.Context(), db.New(tx), Schedule{Name: name, Cron: expression, TimeZone: "Europe/Berlin", Job: NewJob{Type: "free"}}, w.at0())
			if err != nil {
				return err
			}
		}
		return nil
	}))
	for range simWorkers {
		w.workers = append(w.workers, w.hire())
	}
	t.Cleanup(func() {
		for i := range w.workers {
			w.crash(i)
			w.workers[i].stop()
		}
	})
	return w
}

// hire starts a worker.
func (w *world) hire() *simWorker {
	s := &simWorker{w: w, known: map[leaseKey]*simRun{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	task := func(ctx context.Context, x *Execution) (any, error) {
		r := &simRun{ctx: ctx, x: x, orders: make(chan order), done: make(chan struct{})}
		defer close(r.done)
		w.started <- r
		return r.obey()
	}
	s.engine = New(Config{Concurrency: simSlots, Lease: simLease, RetryInitial: 5 * time.Second, RetryMax: 20 * time.Second}, Deps{
		Logger: slog.New(slog.DiscardHandler), Pool: w.pool,
		Tasks: []Task{Func(Kind{Name: "free"}, task), Func(Kind{Name: "limited", Concurrency: simLimit}, task)},
	})
	s.engine.clock = clock{now: func() time.Time { return *w.at0() }, at: w.at0}
	return s
}

// obey does what the run is told until that is its end.
func (r *simRun) obey() (any, error) {
	for o := range r.orders {
		switch {
		case o.result:
			return map[string]string{"by": r.x.owner}, nil
		case o.panics:
			panic("by " + r.x.owner)
		case o.err != nil:
			return nil, o.err
		}
		if err := r.x.Save(context.WithoutCancel(r.ctx), o.save, 100, map[string]string{"by": r.x.owner}); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("the test is over")
}

// tell gives an order and waits until it is taken; an attempt that has ended takes none.
func (r *simRun) tell(o order) {
	select {
	case r.orders <- o:
	case <-r.done:
	}
	if o.save == 0 {
		<-r.done
	}
}

func (w *world) at0() *time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now
	return &now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d.Truncate(time.Microsecond))
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.pool.Exec(context.Background(), sql, args...)
	require.NoError(w.t, err)
}

func (w *world) count(sql string, args ...any) (n int) {
	w.t.Helper()
	require.NoError(w.t, w.pool.QueryRow(context.Background(), sql, args...).Scan(&n))
	return n
}

func (w *world) someWorkers() []*simWorker {
	n := 1 + w.rng.IntN(len(w.workers))
	var some []*simWorker
	for _, i := range w.rng.Perm(len(w.workers))[:n] {
		some = append(some, w.workers[i])
	}
	return some
}

// at lets workers do the same at the same time.
func (w *world) at(workers []*simWorker, what func(*simWorker)) {
	var group sync.WaitGroup
	for _, s := range workers {
		group.Go(func() { what(s) })
	}
	group.Wait()
}

// collect meets the attempts that were started.
func (w *world) collect() {
	missing := 0
	for _, s := range w.workers {
		missing += len(s.unknown())
	}
	for range missing {
		r := <-w.started
		for _, s := range w.workers {
			if r.x.engine == s.engine {
				s.known[leaseKey{r.x.Job.ID, r.x.owner}] = r
			}
		}
	}
}

func (s *simWorker) unknown() (keys []leaseKey) {
	s.engine.leases.mu.Lock()
	defer s.engine.leases.mu.Unlock()
	for key := range s.engine.leases.held {
		if s.known[key] == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// runs are the attempts under way, in an order that the seed decides.
func (s *simWorker) runs() (runs []*simRun) {
	for _, r := range s.known {
		select {
		case <-r.done:
		default:
			runs = append(runs, r)
		}
	}
	slices.SortFunc(runs, func(a, b *simRun) int { return slices.Compare(a.x.Job.ID[:], b.x.Job.ID[:]) })
	return runs
}

func (s *simWorker) look() {
	_, err := s.engine.look(s.ctx)
	require.NoError(s.w.t, err)
}

func (s *simWorker) beat() { require.NoError(s.w.t, s.engine.beat(s.ctx)) }

func (s *simWorker) hear() { require.NoError(s.w.t, s.engine.hearCancels(s.ctx)) }

// settle settles what has ended.
func (s *simWorker) settle() {
	s.reap()
	if len(s.ended) > 0 {
		s.engine.settle(s.ctx, s.ended)
	}
	s.ended = nil
}

// reap takes what has ended from the engine, which would wait otherwise.
func (s *simWorker) reap() {
	for key, r := range s.known {
		select {
		case <-r.done:
			s.ended = append(s.ended, <-s.engine.ended)
			delete(s.known, key)
		default:
		}
	}
}

// act tells one task to go on.
func (w *world) act() {
	s := w.workers[w.rng.IntN(len(w.workers))]
	runs := s.runs()
	if len(runs) == 0 {
		return
	}
	r := runs[w.rng.IntN(len(runs))]
	by := fmt.Errorf("by %s", r.x.owner)
	switch n := w.rng.IntN(100); {
	case n < 40:
		r.tell(order{result: true})
	case n < 60:
		r.tell(order{err: by})
	case n < 65:
		r.tell(order{err: Permanent(by)})
	case n < 70:
		r.tell(order{panics: true})
	case n < 85:
		r.tell(order{save: 1 + w.rng.Int64N(100)})
		select { // the Save is over with the next order, or with the attempt
		case <-r.done:
		case r.orders <- order{save: 1 + w.rng.Int64N(100)}:
		}
	case r.ctx.Err() != nil: // it notices
		r.tell(order{err: r.ctx.Err()})
	}
}

func (w *world) enqueue() {
	n := NewJob{
		Type: []string{"free", "free", "limited"}[w.rng.IntN(3)], Priority: int16(w.rng.IntN(3)), MaxAttempts: 1 + w.rng.IntN(3),
	}
	if w.rng.IntN(4) == 0 {
		n.RunAt = w.at0().Add(time.Duration(w.rng.IntN(60)) * time.Second)
	}
	if w.rng.IntN(3) == 0 {
		n.UniqueKey = fmt.Sprintf("key %d", w.rng.IntN(3))
	}
	at := 1 + w.rng.IntN(3)
	made := make([]db.Job, at)
	var group sync.WaitGroup
	for i := range at {
		group.Go(func() {
			err := postgres.InTx(context.Background(), w.pool, func(tx pgx.Tx) (err error) {
				made[i], _, err = enqueue(context.Background(), db.New(tx), n, w.at0())
				return err
			})
			if err != nil {
				w.t.Errorf("enqueue: %v", err)
			}
		})
	}
	group.Wait()
	for i := range made {
		w.jobs = append(w.jobs, made[i].ID)
	}
}

// change is Cancel, Retry or Hold of some job, which may be refused.
func (w *world) change(what func(context.Context, *db.Queries, uuid.UUID, *uuid.UUID, *time.Time) (db.Job, error)) {
	if len(w.jobs) == 0 {
		return
	}
	recent := w.jobs[max(0, len(w.jobs)-15):]
	id := recent[w.rng.IntN(len(recent))]
	if runs := w.workers[w.rng.IntN(len(w.workers))].runs(); len(runs) > 0 && w.rng.IntN(2) == 0 {
		id = runs[w.rng.IntN(len(runs))].x.Job.ID
	}
	w.changeThe(id, what)
}

func (w *world) changeThe(id uuid.UUID, what func(context.Context, *db.Queries, uuid.UUID, *uuid.UUID, *time.Time) (db.Job, error)) {
	err := postgres.InTx(context.Background(), w.pool, func(tx pgx.Tx) error {
		_, err := what(context.Background(), db.New(tx), id, nil, w.at0())
		return err
	})
	if err != nil && !errors.Is(err, ErrFinished) && !errors.Is(err, ErrNotFinished) && !errors.Is(err, ErrKeyTaken) {
		require.NoError(w.t, err)
	}
}

func (w *world) cancel() { w.change(cancelJob) }

func (w *world) retry() { w.change(retryJob) }

func (w *world) hold() { w.change(holding(true)) }

// resume lets a held job go on; false when there is none.
func (w *world) resume() bool {
	rows, err := w.pool.Query(context.Background(), "SELECT id FROM jobs WHERE held ORDER BY id")
	require.NoError(w.t, err)
	held, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	require.NoError(w.t, err)
	if len(held) == 0 {
		return false
	}
	w.changeThe(held[w.rng.IntN(len(held))], holding(false))
	return true
}

func holding(held bool) func(context.Context, *db.Queries, uuid.UUID, *uuid.UUID, *time.Time) (db.Job, error) {
	return func(ctx context.Context, q *db.Queries, id uuid.UUID, actor *uuid.UUID, at *time.Time) (db.Job, error) {
		return holdJob(ctx, q, id, held, actor, at)
	}
}

// crash makes a worker vanish, and another one come: nothing of what it ran is settled.
func (w *world) crash(i int) {
	s := w.workers[i]
	for _, r := range s.runs() {
		r.tell(order{err: errors.New("nobody hears this")})
	}
	s.reap()
	s.stop()
	w.workers[i] = w.hire()
}

// drain ends a worker as SIGTERM does.
func (w *world) drain(i int) {
	s := w.workers[i]
	s.stop()
	for key := range s.known {
		w.drained[key.owner] = true
	}
	for _, r := range s.runs() {
		switch w.rng.IntN(3) {
		case 0: // just done
			r.tell(order{result: true})
		default:
			r.tell(order{err: context.Canceled})
		}
	}
	s.ctx = context.Background()
	s.settle()
	w.workers[i] = w.hire()
}
