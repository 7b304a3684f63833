package jobs

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// leaseKey is one lease: a job may have been leased twice by this worker, which lost the first one.
type leaseKey struct {
	job   uuid.UUID
	owner string
}

// leases are what this worker holds, from the claim until the outcome is settled.
type leases struct {
	mu   sync.Mutex
	held map[leaseKey]*Execution
}

// lease makes the attempt at a job that was claimed.
func (e *Engine) lease(ctx context.Context, job *db.Job) *Execution {
	x := &Execution{Job: *job, engine: e, owner: *job.LeaseOwner, renewed: e.clock.now()}
	ctx, x.cancel = context.WithCancelCause(traced(ctx, job))
	x.ctx = ctx
	e.leases.mu.Lock()
	defer e.leases.mu.Unlock()
	e.leases.held[leaseKey{job.ID, x.owner}] = x
	return x
}

// release forgets a lease.
func (e *Engine) release(x *Execution) {
	x.cancel(nil)
	e.leases.mu.Lock()
	defer e.leases.mu.Unlock()
	delete(e.leases.held, leaseKey{x.Job.ID, x.owner})
}

// keepLeases renews the leases and hears of cancels, until ctx is done: all of a worker's with one statement.
func (e *Engine) keepLeases(ctx context.Context) {
	beat := time.NewTicker(e.cfg.Lease / 6)
	defer beat.Stop()
	cancels := time.NewTicker(e.cfg.CancelInterval)
	defer cancels.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			err = e.beat(ctx)
		case <-cancels.C:
			err = e.hearCancels(ctx)
		}
		if err != nil && ctx.Err() == nil {
			e.deps.Logger.WarnContext(ctx, "keeping the leases of running jobs failed", "error", err)
		}
	}
}

// beat renews the leases that have not been renewed for a while, and ends the attempts whose lease is lost, or may be.
func (e *Engine) beat(ctx context.Context) error {
	asked := e.clock.now()
	var ids []uuid.UUID
	var owners []string
	e.leases.mu.Lock()
	for key, x := range e.leases.held {
		if asked.Sub(x.renewed) >= e.cfg.Lease/6 {
			ids, owners = append(ids, key.job), append(owners, key.owner)
		}
	}
	e.leases.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	limited, cancel := e.limited(ctx)
	defer cancel()
	rows, err := e.queries.RenewJobLeases(limited, db.RenewJobLeasesParams{Ids: ids, Owners: owners, At: e.clock.at(), LeaseSeconds: e.cfg.Lease.Seconds()})
	stands := map[leaseKey]db.RenewJobLeasesRow{}
	for _, row := range rows {
		stands[leaseKey{row.ID, row.Owner}] = row
	}
	now := e.clock.now()
	e.leases.mu.Lock()
	defer e.leases.mu.Unlock()
	for i := range ids {
		key := leaseKey{ids[i], owners[i]}
		x, held := e.leases.held[key]
		if !held {
			continue // settled meanwhile
		}
		row, found := stands[key]
		switch {
		case err == nil && !found:
			x.cancel(ErrLeaseLost)
		case row.Renewed:
			x.renewed = asked
		case now.Sub(x.renewed) >= e.cfg.Lease: // the database is away, or the task keeps the row locked
			x.cancel(ErrLeaseLost)
		}
		if row.Cancelled {
			x.cancel(ErrCancelled)
		}
	}
	return err
}

// hearCancels ends the attempts at jobs that somebody cancelled or holds.
func (e *Engine) hearCancels(ctx context.Context) error {
	e.leases.mu.Lock()
	ids := make([]uuid.UUID, 0, len(e.leases.held))
	for key := range e.leases.held {
		ids = append(ids, key.job)
	}
	e.leases.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	limited, cancel := e.limited(ctx)
	defer cancel()
	rows, err := e.queries.StoppedJobs(limited, ids)
	if err != nil {
		return err
	}
	e.leases.mu.Lock()
	defer e.leases.mu.Unlock()
	for _, row := range rows {
		if x, held := e.leases.held[leaseKey{row.ID, row.Owner}]; held {
			x.cancel(map[bool]error{true: ErrCancelled, false: ErrHeld}[row.Cancelled])
		}
	}
	return nil
}
