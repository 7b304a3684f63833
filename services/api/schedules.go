package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

const noSchedule = "there is no such schedule, or you are not a member of its collection"

// CreateSchedule implements gen.StrictServerInterface.
func (s *server) CreateSchedule(ctx context.Context, request gen.CreateScheduleRequestObject) (gen.CreateScheduleResponseObject, error) {
	body := request.Body
	wanted, err := s.readJob(body.Job)
	if err != nil {
		return nil, err
	}
	if err := s.mayQueue(ctx, wanted, "/job"); err != nil {
		return nil, err
	}
	row := db.JobSchedule{Name: body.Name, Cron: body.Cron, TimeZone: "UTC", Suspended: body.Suspended != nil && *body.Suspended}
	if body.TimeZone != nil {
		row.TimeZone = *body.TimeZone
	}
	next, err := nextTick(row, s.now())
	if err != nil {
		return nil, err
	}
	id, err := newID()
	if err != nil {
		return nil, err
	}
	return writeOnce(ctx, s, request.Params.IdempotencyKey, request, gen.CreateScheduleResponseObject.VisitCreateScheduleResponse,
		func(q *db.Queries) (gen.CreateScheduleResponseObject, error) {
			row, err := q.CreateJobSchedule(ctx, db.CreateJobScheduleParams{
				ID: id, Name: row.Name, Type: wanted.Type, Parameters: wanted.Parameters, CollectionID: wanted.collection, Priority: wanted.Priority,
				Cron: row.Cron, TimeZone: row.TimeZone, Suspended: row.Suspended, NextRunAt: next, CreatedBy: caller(ctx).actor(), CreatedAt: s.now(),
			})
			if missing(err) {
				return nil, nameTaken()
			}
			if err != nil {
				return nil, fmt.Errorf("write the schedule: %w", err)
			}
			location, tag := "/v1/schedules/"+row.ID.String(), scheduleTag(row)
			return gen.CreateSchedule201JSONResponse{
				Body: scheduleBody(row), Headers: gen.CreateSchedule201ResponseHeaders{Location: &location, ETag: &tag},
			}, nil
		})
}

func nameTaken() *problem {
	return conflict("name-taken", "there is a schedule with this name: choose another one")
}

// nextTick is when a schedule is due next, or what is wrong with its time.
func nextTick(row db.JobSchedule, now time.Time) (time.Time, error) {
	if _, err := jobs.Next("@daily", row.TimeZone, now); err != nil {
		return now, unprocessable(pointed("/time_zone", "is not usable: "+err.Error()))
	}
	next, err := jobs.Next(row.Cron, row.TimeZone, now)
	if err != nil {
		return now, unprocessable(pointed("/cron", "is not usable: "+err.Error()))
	}
	return next, nil
}

// ListSchedules implements gen.StrictServerInterface.
func (s *server) ListSchedules(ctx context.Context, request gen.ListSchedulesRequestObject) (gen.ListSchedulesResponseObject, error) {
	p, params := caller(ctx), request.Params
	scope := []any{"schedules", p.id(), params.CollectionID}
	from, err := s.resume(params.Cursor, position{}, scope...)
	if err != nil {
		return nil, err
	}
	size := pageSize(params.Limit)
	query := db.ListJobSchedulesOfParams{After: from.Text, CollectionID: params.CollectionID, PageSize: size + 1}
	switch user := p.id(); {
	case params.CollectionID != nil:
		if err := s.checkJobs(ctx, *params.CollectionID); err != nil {
			return nil, err
		}
	case !p.admin:
		query.Member = &user
	}
	rows, err := s.queries.ListJobSchedulesOf(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("list schedules: %w", err)
	}
	rows, more := cut(rows, size)
	out := gen.ListSchedules200JSONResponse{Items: convert(rows, scheduleBody)}
	if more {
		out.NextCursor, err = s.next(ctx, position{Text: rows[len(rows)-1].Name}, scope...)
	}
	return out, err
}

// GetSchedule implements gen.StrictServerInterface.
func (s *server) GetSchedule(ctx context.Context, request gen.GetScheduleRequestObject) (gen.GetScheduleResponseObject, error) {
	row, err := scheduleFor(ctx, s.queries, request.ID)
	if err != nil {
		return nil, err
	}
	tag := scheduleTag(row)
	return gen.GetSchedule200JSONResponse{Body: scheduleBody(row), Headers: gen.GetSchedule200ResponseHeaders{ETag: &tag}}, nil
}

// UpdateSchedule implements gen.StrictServerInterface.
func (s *server) UpdateSchedule(ctx context.Context, request gen.UpdateScheduleRequestObject) (gen.UpdateScheduleResponseObject, error) {
	patch := request.JSONBody
	if patch == nil {
		patch = request.ApplicationMergePatchPlusJSONBody
	}
	var row db.JobSchedule
	err := s.write(ctx, func(q *db.Queries) (err error) {
		if row, err = lockSchedule(ctx, q, request.ID, request.Params.IfMatch); err != nil {
			return err
		}
		before := row
		set(&row.Name, patch.Name)
		set(&row.Cron, patch.Cron)
		set(&row.TimeZone, patch.TimeZone)
		set(&row.Suspended, patch.Suspended)
		if row.Name == before.Name && row.Cron == before.Cron && row.TimeZone == before.TimeZone && row.Suspended == before.Suspended {
			return nil
		}
		now := s.now()
		next, err := nextTick(row, now)
		if err != nil {
			return err
		}
		if row.Cron == before.Cron && row.TimeZone == before.TimeZone && !before.Suspended && before.NextRunAt != nil {
			next = *before.NextRunAt // a tick that is due is not lost to a new name
		}
		row, err = q.UpdateJobSchedule(ctx, db.UpdateJobScheduleParams{
			ID: row.ID, Name: row.Name, Cron: row.Cron, TimeZone: row.TimeZone, Suspended: row.Suspended, NextRunAt: next, UpdatedAt: later(now, before.UpdatedAt),
		})
		var refused *pgconn.PgError
		switch {
		case errors.As(err, &refused) && refused.Code == "23505":
			return nameTaken()
		case err != nil:
			return fmt.Errorf("change the schedule: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	tag := scheduleTag(row)
	return gen.UpdateSchedule200JSONResponse{Body: scheduleBody(row), Headers: gen.UpdateSchedule200ResponseHeaders{ETag: &tag}}, nil
}

func set[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

// later is now, or just after the change before, so that no two states of a schedule have the same ETag.
func later(now, before time.Time) time.Time {
	if now.After(before) {
		return now
	}
	return before.Add(time.Microsecond)
}

// DeleteSchedule implements gen.StrictServerInterface.
func (s *server) DeleteSchedule(ctx context.Context, request gen.DeleteScheduleRequestObject) (gen.DeleteScheduleResponseObject, error) {
	err := s.write(ctx, func(q *db.Queries) error {
		row, err := lockSchedule(ctx, q, request.ID, request.Params.IfMatch)
		if err != nil {
			return err
		}
		if err := q.EraseJobSchedule(ctx, row.ID); err != nil {
			return fmt.Errorf("delete the schedule: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return gen.DeleteSchedule204Response{}, nil
}

// scheduleFor reads a schedule for those who handle it, as jobFor does with a job.
func scheduleFor(ctx context.Context, q *db.Queries, id uuid.UUID) (db.JobSchedule, error) {
	p := caller(ctx)
	row, err := q.GetJobScheduleFor(ctx, p.id(), id)
	switch {
	case missing(err) || (err == nil && !p.admin && row.Role == nil):
		return db.JobSchedule{}, notFound(noSchedule)
	case err != nil:
		return db.JobSchedule{}, fmt.Errorf("read the schedule: %w", err)
	case !p.admin && !canEdit(*row.Role):
		return db.JobSchedule{}, needsRole(*row.Role, gen.Owner, gen.Editor)
	}
	return row.JobSchedule, nil
}

// lockSchedule reads a schedule for a change that match, an If-Match header, allows.
func lockSchedule(ctx context.Context, q *db.Queries, id uuid.UUID, match *string) (db.JobSchedule, error) {
	if _, err := scheduleFor(ctx, q, id); err != nil { // before the lock: strangers wait for nobody
		return db.JobSchedule{}, err
	}
	row, err := q.LockJobSchedule(ctx, id)
	switch {
	case missing(err):
		return row, notFound(noSchedule)
	case err != nil:
		return row, fmt.Errorf("read the schedule: %w", err)
	case !ifMatch(match, scheduleVersion(row)):
		return row, preconditionFailed(scheduleVersion(row))
	}
	return row, nil
}

// scheduleVersion is the moment of the last change by somebody.
func scheduleVersion(row db.JobSchedule) int64 { return row.UpdatedAt.UnixMicro() }

func scheduleTag(row db.JobSchedule) string { return etag(scheduleVersion(row)) }

func scheduleBody(row db.JobSchedule) gen.Schedule {
	body := gen.Schedule{
		ID: row.ID, Name: row.Name, Cron: row.Cron, TimeZone: row.TimeZone, Suspended: row.Suspended, CollectionID: row.CollectionID,
		Job:       gen.ScheduledJob{Type: gen.JobType(row.Type), Parameters: row.Parameters, Priority: int(row.Priority)},
		LastRunAt: utc(row.LastRunAt), LastJobID: row.LastJobID, Error: row.Error, CreatedBy: row.CreatedBy, CreatedAt: row.CreatedAt.UTC(),
		UpdatedAt: row.UpdatedAt.UTC(),
	}
	if !row.Suspended {
		body.NextRunAt = utc(row.NextRunAt)
	}
	return body
}
