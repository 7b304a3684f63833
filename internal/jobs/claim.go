package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

const (
	// kindLocks is the space of the advisory locks of kinds: "jobs" in ASCII.
	kindLocks = 0x6a6f6273
	// rescueLock is the advisory lock of whoever looks for jobs of dead workers: "rescue" in ASCII.
	rescueLock = 0x726573637565
	// rescueBatch is how many jobs are rescued at a time.
	rescueBatch = 100
	// lockPause is the wait, more or less, before a kind is looked at again that another worker is claiming.
	lockPause = 50 * time.Millisecond
)

// Why a job was rescued, for its error.
const leaseLost = "the worker that ran the job stopped renewing its lease"

// head is the first job that waits of a type and priority.
type head struct {
	kind     Kind
	priority int16
}

// look does what is due: rescues jobs, fires schedules, claims jobs and starts them. It returns when it wants to be called again. It costs one
// statement when there is nothing to do.
func (e *Engine) look(ctx context.Context) (time.Duration, error) {
	limited, cancel := e.limited(ctx)
	defer cancel()
	for again := false; ; again = true {
		peek, err := e.queries.PeekJobs(limited, e.clock.at(), e.types)
		if err != nil {
			return 0, fmt.Errorf("look at the queue: %w", err)
		}
		if !again && (peek.Expired || peek.ScheduleWait <= 0) {
			if err := e.mend(limited, peek.Expired, peek.ScheduleWait <= 0); err != nil {
				return 0, err
			}
			continue // with what that has queued
		}
		return e.start(ctx, peek)
	}
}

func (e *Engine) mend(ctx context.Context, expired, due bool) error {
	if expired {
		if _, err := e.rescue(ctx); err != nil {
			return err
		}
	}
	if due {
		return e.fire(ctx)
	}
	return nil
}

// start claims what is due and runs it.
func (e *Engine) start(ctx context.Context, peek db.PeekJobsRow) (time.Duration, error) {
	wait := min(e.pollWait(), max(seconds(peek.ScheduleWait), e.cfg.GatherInterval))
	var due []head
	for i, name := range peek.Types {
		if peek.Waits[i] <= 0 {
			due = append(due, head{e.kinds[name], peek.Priorities[i]})
		} else {
			wait = min(wait, seconds(peek.Waits[i]))
		}
	}
	e.waiting = len(due) > 0
	room := cap(e.slots) - len(e.slots)
	if room == 0 || len(due) == 0 {
		return wait, nil
	}
	jobs, busy, err := e.claim(ctx, due, room)
	for i := range jobs { // also what was claimed before an error
		e.run(ctx, &jobs[i])
	}
	e.waiting = len(jobs) == room
	if busy {
		wait = min(wait, lockPause/2+rand.N(lockPause)) //nolint:gosec // spreads load, guards nothing
	}
	return wait, err
}

// claim takes at most room jobs. Between types of one priority the one goes first whose oldest job has waited longest. Busy says that a kind was left
// out because another worker is claiming it just now.
func (e *Engine) claim(ctx context.Context, due []head, room int) (claimed []db.Job, busy bool, err error) {
	ctx, cancel := e.limited(ctx)
	defer cancel()
	for len(due) > 0 && room > len(claimed) {
		n := 1
		if due[0].kind.Concurrency == 0 {
			n = slices.IndexFunc(due, func(h head) bool { return h.kind.Concurrency > 0 })
			if n < 0 {
				n = len(due)
			}
		}
		jobs, err := e.claimOf(ctx, due[:n], room-len(claimed))
		switch left := due[0].kind.Name; {
		case errors.Is(err, errKindBusy): // with all its priorities: the lower ones don't overtake
			busy, due = true, slices.DeleteFunc(due, func(h head) bool { return h.kind.Name == left })
			continue
		case err != nil:
			return claimed, busy, fmt.Errorf("claim jobs: %w", err)
		}
		claimed, due = append(claimed, jobs...), due[n:]
	}
	return claimed, busy, nil
}

// errKindBusy says that another worker is claiming jobs of a kind with a limit.
var errKindBusy = errors.New("another worker is claiming jobs of this kind")

// claimOf takes jobs of these heads, in one transaction: of any number of kinds without a limit, or of one kind that has one.
func (e *Engine) claimOf(ctx context.Context, heads []head, room int) (jobs []db.Job, err error) {
	arg := db.ClaimJobsParams{
		Owner: e.name + "#" + strconv.FormatInt(e.claims.Add(1), 10), LeaseSeconds: e.cfg.Lease.Seconds(), At: e.clock.at(),
	}
	for _, h := range heads {
		arg.Types, arg.Priorities = append(arg.Types, h.kind.Name), append(arg.Priorities, h.priority)
	}
	err = postgres.InTx(ctx, e.deps.Pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		if limit := heads[0].kind.Concurrency; limit > 0 {
			mine, err := q.TryLockJobKind(ctx, kindLocks, heads[0].kind.Name)
			if err != nil {
				return fmt.Errorf("lock the kind: %w", err)
			}
			if !mine {
				return errKindBusy
			}
			running, err := q.CountRunningJobs(ctx, heads[0].kind.Name)
			if err != nil {
				return fmt.Errorf("count running jobs: %w", err)
			}
			room = min(room, limit-int(running))
			if room <= 0 {
				return nil // whoever ends one tells the others
			}
		}
		arg.BatchSize = int32(room) //nolint:gosec // bounded by Concurrency
		if jobs, err = q.ClaimJobs(ctx, arg); err != nil {
			return err
		}
		return writeUpdates(ctx, q, jobs)
	})
	slices.SortFunc(jobs, func(a, b db.Job) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.RunAt.Compare(b.RunAt), slices.Compare(a.ID[:], b.ID[:]))
	})
	return jobs, err
}

// run starts a job that was claimed.
func (e *Engine) run(ctx context.Context, job *db.Job) {
	e.metrics.claimed(job)
	x := e.lease(ctx, job)
	e.slots <- struct{}{}
	e.metrics.running.Inc()
	e.running.Go(func() { //nolint:contextcheck // the attempt has a context of its own
		defer func() {
			<-e.slots
			e.metrics.running.Dec()
			select {
			case e.freed <- struct{}{}:
			default:
			}
		}()
		e.execute(x)
		e.ended <- x
	})
}

// rescue puts jobs of dead workers back into the queue.
func (e *Engine) rescue(ctx context.Context) (jobs []db.Job, err error) {
	err = postgres.InTx(ctx, e.deps.Pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		if mine, err := q.TryRescueLock(ctx, rescueLock); err != nil || !mine {
			return err
		}
		if jobs, err = q.RescueJobs(ctx, db.RescueJobsParams{Error: leaseLost, ErrorCode: CodeLeaseLost, At: e.clock.at(), BatchSize: rescueBatch}); err != nil {
			return err
		}
		return writeUpdates(ctx, q, jobs)
	})
	if err != nil {
		return nil, fmt.Errorf("rescue jobs: %w", err)
	}
	for i := range jobs {
		e.metrics.outcomes.WithLabelValues(jobs[i].Type, outcomeLeaseLost).Inc()
		e.deps.Logger.WarnContext(traced(ctx, &jobs[i]), "job lost its worker", "job_id", jobs[i].ID, "type", jobs[i].Type, "state", jobs[i].State)
	}
	if len(jobs) > 0 {
		e.waker.Nudge()
	}
	return jobs, nil
}
