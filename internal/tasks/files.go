package tasks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/pause"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/transfer"
)

// The codes of the errors of jobs that move files.
const (
	codeNoStore      = "no_object_store"
	codeNotAllowed   = "not_allowed"
	codeNoCollection = "collection_not_found"
	codeNoFile       = "file_not_found"
	codeFileChanged  = "file_changed"
	codeInvalidFile  = "invalid_file"
	codeInvalidItems = "invalid_items"
)

// saveInterval is how often progress is saved where nothing is done again because of it.
const saveInterval = time.Second

// decode reads a job's parameters.
func decode[T any](x *jobs.Execution) (T, error) {
	var parameters T
	if len(x.Job.Parameters) == 0 {
		return parameters, nil
	}
	if err := json.Unmarshal(x.Job.Parameters, &parameters); err != nil {
		return parameters, jobs.Permanent(fmt.Errorf("read the job's parameters: %w", err))
	}
	return parameters, nil
}

func noStore() error { return jobs.Permanent(jobs.Errorf(codeNoStore, "%s", transfer.NoStore)) }

// transferRights are what whoever queued the job may do now. It returns an error when they may not move the collection's items any more.
func transferRights(ctx context.Context, q *db.Queries, x *jobs.Execution, collection uuid.UUID) (db.GetTransferRightsRow, error) {
	rights, err := q.GetTransferRights(ctx, x.Job.CreatedBy, collection)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return rights, jobs.Permanent(jobs.Errorf(codeNoCollection, "the collection does not exist"))
	case err != nil:
		return rights, fmt.Errorf("look for the collection and its members: %w", err)
	case !rights.IsAdmin && !rights.IsEditor:
		return rights, jobs.Permanent(jobs.Errorf(codeNotAllowed, "whoever queued the job is no owner or editor of the collection any more"))
	}
	return rights, nil
}

// fileError says which errors of a file no further attempt can mend.
func fileError(err error, path string) error {
	switch {
	case errors.Is(err, objects.ErrNotFound):
		return jobs.Permanent(jobs.Errorf(codeNoFile, "%s: %w", path, err))
	case errors.Is(err, objects.ErrChanged):
		return jobs.Permanent(jobs.Errorf(codeFileChanged, "%s: %w", path, err))
	case errors.Is(err, objects.ErrTooLarge):
		return jobs.Permanent(jobs.Errorf(codeInvalidFile, "%s: %w", path, err))
	}
	return err
}

const (
	raceAttempts = 5
	racePause    = 50 * time.Millisecond
)

// raced does work again that lost a race with somebody else's transaction.
func raced(ctx context.Context, work func() error) error {
	for attempt := 1; ; attempt++ {
		err := work()
		if attempt == raceAttempts || !postgres.LostRace(err) || pause.For(ctx, time.Duration(attempt)*racePause) != nil {
			return err
		}
	}
}
