package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// Hold has a job wait until it is resumed: nobody claims it, and the worker that runs it hands it back at its checkpoint, within a second and without
// using up an attempt. To hold one that is held is fine. A finished one is ErrFinished, with the job.
func Hold(ctx context.Context, q *db.Queries, id uuid.UUID, actor *uuid.UUID) (db.Job, error) {
	return holdJob(ctx, q, id, true, actor, nil)
}

// Resume lets a held job go on; one that isn't held does so anyway. A finished one is ErrFinished, with the job. Nudge the workers after the commit.
func Resume(ctx context.Context, q *db.Queries, id uuid.UUID, actor *uuid.UUID) (db.Job, error) {
	return holdJob(ctx, q, id, false, actor, nil)
}

func holdJob(ctx context.Context, q *db.Queries, id uuid.UUID, held bool, actor *uuid.UUID, at *time.Time) (db.Job, error) {
	job, err := lock(ctx, q, id)
	if err != nil {
		return job, err
	}
	switch {
	case job.State != stateQueued && job.State != stateRunning:
		return job, ErrFinished
	case job.Held == held:
		return job, nil
	}
	if job, err = q.HoldJob(ctx, held, at, id); err != nil {
		return job, fmt.Errorf("hold or resume the job: %w", err)
	}
	return job, writeEvent(ctx, q, event.JobUpdated, &job, actor)
}
