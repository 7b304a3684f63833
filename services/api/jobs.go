package api

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/telemetry"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// CreateJob implements gen.StrictServerInterface.
func (s *server) CreateJob(ctx context.Context, request gen.CreateJobRequestObject) (gen.CreateJobResponseObject, error) {
	collection := request.Body.Parameters.CollectionID
	if err := s.checkJobs(ctx, collection); err != nil {
		return nil, err
	}
	parameters, err := json.Marshal(request.Body.Parameters)
	if err != nil {
		return nil, fmt.Errorf("encode the job's parameters: %w", err)
	}
	id, err := newID()
	if err != nil {
		return nil, err
	}
	input := db.CreateJobParams{
		ID: id, Type: string(request.Body.Type), Parameters: parameters, CollectionID: &collection,
		IdempotencyKey: request.Params.IdempotencyKey, CreatedBy: caller(ctx).actor(), CreatedAt: s.now(),
	}
	var row db.CreateJobRow
	err = s.write(ctx, func(q *db.Queries) (err error) {
		row, err = createJob(ctx, q, input)
		return err
	})
	if err != nil {
		return nil, err
	}
	body, err := jobBody(row)
	if err != nil {
		return nil, err
	}
	location := "/v1/jobs/" + row.ID.String()
	return gen.CreateJob202JSONResponse{Body: body, Headers: gen.CreateJob202ResponseHeaders{Location: &location}}, nil
}

// createJob queues a job and its event, or finds the job that the caller queued with the same idempotency key.
func createJob(ctx context.Context, q *db.Queries, input db.CreateJobParams) (db.CreateJobRow, error) {
	if t := telemetry.TraceFrom(ctx); t.ID != "" {
		input.TraceID, input.Traceparent = &t.ID, &t.Parent
	}
	row, err := q.CreateJob(ctx, input)
	if missing(err) {
		earlier, err := q.GetJobByKey(ctx, caller(ctx).id(), *input.IdempotencyKey)
		if err != nil {
			return row, fmt.Errorf("read the job of an idempotency key: %w", err)
		}
		if earlier.Type != input.Type || !sameJSON(earlier.Parameters, input.Parameters) {
			return row, keyReused("job " + earlier.ID.String() + " was queued with this key and another body")
		}
		return db.CreateJobRow(earlier), nil
	}
	if err != nil {
		return row, fmt.Errorf("queue the job: %w", err)
	}
	return row, emit(ctx, q, event.JobCreated, event.Entity{Type: event.EntityJob, ID: row.ID, CollectionID: row.CollectionID}, row.CreatedAt,
		event.JobData{JobID: row.ID, EntityVersion: row.Version, JobType: row.Type, State: row.State, Attempt: int(row.Attempt)})
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// ListJobs implements gen.StrictServerInterface.
func (s *server) ListJobs(ctx context.Context, request gen.ListJobsRequestObject) (gen.ListJobsResponseObject, error) {
	p, params := caller(ctx), request.Params
	scope := []any{"jobs", p.id(), params.CollectionID}
	from, err := s.resume(params.Cursor, position{ID: lastID}, scope...)
	if err != nil {
		return nil, err
	}
	size := pageSize(params.Limit)
	rows, err := s.jobPage(ctx, p, params.CollectionID, from.ID, size+1)
	if err != nil {
		return nil, err
	}
	rows, more := cut(rows, size)
	out := gen.ListJobs200JSONResponse{Items: make([]gen.Job, len(rows))}
	for i, row := range rows {
		if out.Items[i], err = jobBody(row); err != nil {
			return nil, err
		}
	}
	if more {
		out.NextCursor, err = s.next(ctx, position{ID: rows[len(rows)-1].ID}, scope...)
	}
	return out, err
}

func (s *server) jobPage(ctx context.Context, p principal, collection *uuid.UUID, before uuid.UUID, size int32) ([]db.CreateJobRow, error) {
	switch {
	case collection != nil:
		if err := s.checkJobs(ctx, *collection); err != nil {
			return nil, err
		}
		rows, err := s.queries.ListJobsOfCollection(ctx, *collection, before, size)
		return convert(rows, func(r db.ListJobsOfCollectionRow) db.CreateJobRow { return db.CreateJobRow(r) }), wrapList(err)
	case p.admin:
		rows, err := s.queries.ListJobs(ctx, before, size)
		return convert(rows, func(r db.ListJobsRow) db.CreateJobRow { return db.CreateJobRow(r) }), wrapList(err)
	default:
		rows, err := s.queries.ListJobsOfUser(ctx, before, size, p.id())
		return convert(rows, func(r db.ListJobsOfUserRow) db.CreateJobRow { return db.CreateJobRow(r) }), wrapList(err)
	}
}

func wrapList(err error) error {
	if err != nil {
		return fmt.Errorf("list jobs: %w", err)
	}
	return nil
}

// GetJob implements gen.StrictServerInterface.
func (s *server) GetJob(ctx context.Context, request gen.GetJobRequestObject) (gen.GetJobResponseObject, error) {
	p := caller(ctx)
	row, err := s.queries.GetJobFor(ctx, p.id(), request.ID)
	if missing(err) || (err == nil && !p.admin && row.Role == nil) {
		return nil, notFound("there is no such job, or you are not a member of its collection")
	}
	if err != nil {
		return nil, fmt.Errorf("read the job: %w", err)
	}
	if !p.admin && !canEdit(*row.Role) {
		return nil, needsRole(*row.Role, gen.Owner, gen.Editor)
	}
	body, err := jobBody(db.CreateJobRow{
		ID: row.ID, Type: row.Type, Parameters: row.Parameters, CollectionID: row.CollectionID, State: row.State, Version: row.Version,
		Attempt: row.Attempt, MaxAttempts: row.MaxAttempts, ProgressDone: row.ProgressDone, ProgressTotal: row.ProgressTotal, Error: row.Error,
		CreatedAt: row.CreatedAt, StartedAt: row.StartedAt, FinishedAt: row.FinishedAt,
	})
	if err != nil {
		return nil, err
	}
	return gen.GetJob200JSONResponse(body), nil
}

// checkJobs lets the collection's owners and editors and platform admins handle its jobs.
func (s *server) checkJobs(ctx context.Context, collection uuid.UUID) error {
	p := caller(ctx)
	row, err := s.queries.GetCollectionRole(ctx, p.id(), collection)
	switch {
	case missing(err) || (err == nil && row.Role == nil && !p.admin):
		return notFound(noCollection)
	case err != nil:
		return fmt.Errorf("read the caller's role: %w", err)
	case p.admin || canEdit(*row.Role):
		return nil
	default:
		return needsRole(*row.Role, gen.Owner, gen.Editor)
	}
}

func jobBody(row db.CreateJobRow) (gen.Job, error) {
	body := gen.Job{
		ID: row.ID, Type: row.Type, State: gen.JobState(row.State), Attempts: int(row.Attempt), MaxAttempts: int(row.MaxAttempts),
		Progress: gen.JobProgress{Done: row.ProgressDone, Total: row.ProgressTotal}, CreatedAt: row.CreatedAt.UTC(),
		StartedAt: utc(row.StartedAt), FinishedAt: utc(row.FinishedAt),
	}
	if row.Error != nil {
		body.Error = &gen.JobError{Message: *row.Error}
	}
	if err := json.Unmarshal(row.Parameters, &body.Parameters); err != nil {
		return body, fmt.Errorf("decode the parameters of job %s: %w", row.ID, err)
	}
	return body, nil
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}
