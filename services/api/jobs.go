package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/jobschema"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/tasks"
	"github.com/atlas-platform/atlas/internal/transfer"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// maxJobDelay is how far run_at may be away.
const maxJobDelay = 366 * 24 * time.Hour

const noJob = "there is no such job, or you are not a member of its collection"

// CreateJob implements gen.StrictServerInterface.
func (s *server) CreateJob(ctx context.Context, request gen.CreateJobRequestObject) (gen.CreateJobResponseObject, error) {
	wanted, err := s.readJob(request.Body)
	if err != nil {
		return nil, err
	}
	if err := s.mayQueue(ctx, wanted, ""); err != nil {
		return nil, err
	}
	p := caller(ctx)
	n := jobs.NewJob{
		Type: wanted.Type, Parameters: wanted.Parameters, CollectionID: wanted.collection, CreatedBy: p.actor(), Actor: p.actor(),
		Priority: wanted.Priority, MaxAttempts: wanted.MaxAttempts,
	}
	if request.Params.IdempotencyKey != nil {
		n.IdempotencyKey = *request.Params.IdempotencyKey
		if n.RequestHash, err = jobHash(request.Body); err != nil {
			return nil, err
		}
	}
	if wanted.RunAt != nil && wanted.RunAt.After(s.now()) {
		n.RunAt = *wanted.RunAt
	}
	var job db.Job
	err = s.write(ctx, func(q *db.Queries) (err error) {
		job, err = queueJob(ctx, q, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.wake()
	location, tag := jobPath(job.ID), etag(job.Version)
	return gen.CreateJob202JSONResponse{
		Body: jobBody(job, p.admin, true), Headers: gen.CreateJob202ResponseHeaders{Location: &location, ETag: &tag},
	}, nil
}

// queueJob queues a job, or finds the one that the caller queued with the same idempotency key.
func queueJob(ctx context.Context, q *db.Queries, n jobs.NewJob) (db.Job, error) {
	job, created, err := jobs.Enqueue(ctx, q, n)
	if err != nil {
		return job, err
	}
	if created {
		return job, nil
	}
	same := bytes.Equal(job.RequestHash, n.RequestHash)
	if job.RequestHash == nil { // the version before wrote down no more than this
		parameters, err := json.Marshal(n.Parameters)
		if err != nil {
			return job, fmt.Errorf("encode the job's parameters: %w", err)
		}
		same = job.Type == n.Type && job.Priority == n.Priority && sameJSON(job.Parameters, parameters)
	}
	if !same {
		return job, keyReused("job " + job.ID.String() + " was queued with this key and another body")
	}
	return job, nil
}

// jobHash tells bodies of requests for a job apart, by all that they say: the row changes and is filled with defaults. The order of members doesn't count.
func jobHash(body json.Marshaler) ([]byte, error) {
	content, err := body.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("encode the request for a job: %w", err)
	}
	var said any
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	if err := decoder.Decode(&said); err != nil {
		return nil, fmt.Errorf("read the request for a job: %w", err)
	}
	if content, err = json.Marshal(said); err != nil {
		return nil, fmt.Errorf("encode the request for a job: %w", err)
	}
	sum := sha256.Sum256(content)
	return sum[:], nil
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// GetJob implements gen.StrictServerInterface.
func (s *server) GetJob(ctx context.Context, request gen.GetJobRequestObject) (gen.GetJobResponseObject, error) {
	job, err := jobFor(ctx, s.queries, request.ID)
	if err != nil {
		return nil, err
	}
	tag := etag(job.Version)
	if ifNoneMatch(request.Params.IfNoneMatch, job.Version) {
		return gen.GetJob304Response{Headers: gen.GetJob304ResponseHeaders{ETag: &tag}}, nil
	}
	return gen.GetJob200JSONResponse{Body: jobBody(job, caller(ctx).admin, true), Headers: gen.GetJob200ResponseHeaders{ETag: &tag}}, nil
}

// jobFor reads a job for those who handle it: platform admins, and the owners and editors of its collection.
func jobFor(ctx context.Context, q *db.Queries, id uuid.UUID) (db.Job, error) {
	p := caller(ctx)
	row, err := q.GetJobFor(ctx, p.id(), id)
	switch {
	case missing(err) || (err == nil && !p.admin && row.Role == nil):
		return db.Job{}, notFound(noJob)
	case err != nil:
		return db.Job{}, fmt.Errorf("read the job: %w", err)
	case !p.admin && !canEdit(*row.Role):
		return db.Job{}, needsRole(*row.Role, gen.Owner, gen.Editor)
	}
	return row.Job, nil
}

// CancelJob implements gen.StrictServerInterface.
func (s *server) CancelJob(ctx context.Context, request gen.CancelJobRequestObject) (gen.CancelJobResponseObject, error) {
	p := caller(ctx)
	var job db.Job
	err := s.write(ctx, func(q *db.Queries) (err error) {
		if _, err = jobFor(ctx, q, request.ID); err != nil {
			return err
		}
		job, err = jobs.Cancel(ctx, q, request.ID, p.actor())
		return jobProblem(err)
	})
	if err != nil {
		return nil, err
	}
	s.wake() // the one that runs it, if any
	body, tag := jobBody(job, p.admin, true), etag(job.Version)
	if finished(job.State) {
		return gen.CancelJob200JSONResponse{Body: body, Headers: gen.CancelJob200ResponseHeaders{ETag: &tag}}, nil
	}
	return gen.CancelJob202JSONResponse{Body: body, Headers: gen.CancelJob202ResponseHeaders{ETag: &tag}}, nil
}

// PauseJob implements gen.StrictServerInterface.
func (s *server) PauseJob(ctx context.Context, request gen.PauseJobRequestObject) (gen.PauseJobResponseObject, error) {
	job, err := s.holdJob(ctx, request.ID, jobs.Hold)
	if err != nil {
		return nil, err
	}
	body, tag := jobBody(job, caller(ctx).admin, true), etag(job.Version)
	if gen.JobState(job.State) != gen.Running {
		return gen.PauseJob200JSONResponse{Body: body, Headers: gen.PauseJob200ResponseHeaders{ETag: &tag}}, nil
	}
	return gen.PauseJob202JSONResponse{Body: body, Headers: gen.PauseJob202ResponseHeaders{ETag: &tag}}, nil
}

// ResumeJob implements gen.StrictServerInterface.
func (s *server) ResumeJob(ctx context.Context, request gen.ResumeJobRequestObject) (gen.ResumeJobResponseObject, error) {
	job, err := s.holdJob(ctx, request.ID, jobs.Resume)
	if err != nil {
		return nil, err
	}
	tag := etag(job.Version)
	return gen.ResumeJob200JSONResponse{Body: jobBody(job, caller(ctx).admin, true), Headers: gen.ResumeJob200ResponseHeaders{ETag: &tag}}, nil
}

type holder func(ctx context.Context, q *db.Queries, id uuid.UUID, actor *uuid.UUID) (db.Job, error)

func (s *server) holdJob(ctx context.Context, id uuid.UUID, change holder) (job db.Job, err error) {
	err = s.write(ctx, func(q *db.Queries) (err error) {
		if _, err = jobFor(ctx, q, id); err != nil {
			return err
		}
		job, err = change(ctx, q, id, caller(ctx).actor())
		return jobProblem(err)
	})
	if err == nil {
		s.wake()
	}
	return job, err
}

// RetryJob implements gen.StrictServerInterface.
func (s *server) RetryJob(ctx context.Context, request gen.RetryJobRequestObject) (gen.RetryJobResponseObject, error) {
	answer, err := writeOnce(ctx, s, request.Params.IdempotencyKey, request, gen.RetryJobResponseObject.VisitRetryJobResponse,
		func(q *db.Queries) (gen.RetryJobResponseObject, error) {
			if _, err := jobFor(ctx, q, request.ID); err != nil {
				return nil, err
			}
			p := caller(ctx)
			job, err := jobs.Retry(ctx, q, request.ID, p.actor())
			if err := jobProblem(err); err != nil {
				return nil, err
			}
			tag := etag(job.Version)
			return gen.RetryJob202JSONResponse{Body: jobBody(job, p.admin, true), Headers: gen.RetryJob202ResponseHeaders{ETag: &tag}}, nil
		})
	if err == nil {
		s.wake()
	}
	return answer, err
}

// jobProblem turns the engine's answers to a change of a job into the API's. That a finished job is not cancelled, nor
// paused, is none: it does not run.
func jobProblem(err error) error {
	switch {
	case err == nil, errors.Is(err, jobs.ErrFinished):
		return nil
	case errors.Is(err, jobs.ErrNotFound):
		return notFound(noJob)
	case errors.Is(err, jobs.ErrNotFinished):
		return conflict("job-not-finished", "only a job that is FAILED or CANCELLED can be queued again")
	case errors.Is(err, jobs.ErrKeyTaken):
		return conflict("job-exists", "another job that does the same is not finished yet")
	default:
		return err
	}
}

// wantedJob is a request for a job of any type. The specification has checked that the parameters are those of the type.
type wantedJob struct {
	Type        string          `json:"type"`
	Parameters  json.RawMessage `json:"parameters"`
	RunAt       *time.Time      `json:"run_at"`
	Priority    int16           `json:"priority"`
	MaxAttempts int             `json:"max_attempts"`

	kind jobs.Kind
	// collection is the one that the job is about; nil when it is about all of Atlas.
	collection *uuid.UUID
	// path is the file that the job names; it may be empty.
	path string
}

// readJob reads any of the forms of a request for a job.
func (s *server) readJob(body json.Marshaler) (wantedJob, error) {
	var wanted wantedJob
	content, err := body.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(content, &wanted)
	}
	if wanted.Parameters == nil {
		wanted.Parameters = json.RawMessage("{}")
	}
	var parameters map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(wanted.Parameters, &parameters)
	}
	if named := parameters[jobschema.CollectionID]; err == nil && named != nil {
		err = json.Unmarshal(named, &wanted.collection)
	}
	if named := parameters["path"]; err == nil && named != nil {
		err = json.Unmarshal(named, &wanted.path)
	}
	if err != nil {
		return wanted, fmt.Errorf("read the job: %w", err)
	}
	place := slices.IndexFunc(s.kinds, func(k jobs.Kind) bool { return k.Name == wanted.Type && !k.Internal })
	if place < 0 {
		return wanted, unprocessable(pointed("/type", "is no type of a job"))
	}
	wanted.kind = s.kinds[place]
	wanted.MaxAttempts = cmp.Or(wanted.MaxAttempts, wanted.kind.MaxAttempts)
	if wanted.RunAt != nil && wanted.RunAt.After(s.now().Add(maxJobDelay)) {
		return wanted, unprocessable(pointed("/run_at", "must be at most 366 days away"))
	}
	return wanted, nil
}

// mayQueue lets the collection's owners and editors queue jobs for it, and platform admins any job. The place is where the request has the job.
func (s *server) mayQueue(ctx context.Context, wanted wantedJob, place string) error {
	p := caller(ctx)
	switch {
	case wanted.collection != nil:
		if err := s.checkJobs(ctx, *wanted.collection); err != nil {
			return err
		}
	case !p.admin && wanted.kind.Scope == jobs.ScopePlatform:
		return forbidden("a job of the type " + wanted.Type + " is for platform admins")
	case !p.admin:
		return forbidden("without a collection_id it is about all of Atlas, which is for platform admins")
	}
	if wanted.Priority != 0 && !p.admin {
		return forbidden("only platform admins may give a job a priority")
	}
	if wanted.kind.Files && s.objects == nil {
		return noObjectStore()
	}
	return checkPath(wanted, p.admin, place)
}

// checkPath refuses the path of a file that the job will not be let at.
func checkPath(wanted wantedJob, admin bool, place string) error {
	folder := transfer.ImportFolder
	if wanted.Type == tasks.TypeExport {
		folder = transfer.ExportFolder
	}
	if !wanted.kind.Files || wanted.path == "" || wanted.collection == nil {
		return nil
	}
	if err := transfer.CheckPath(wanted.path, folder(*wanted.collection), admin); err != nil {
		return unprocessable(pointed(place+"/parameters/path", strings.TrimPrefix(err.Error(), "the path ")))
	}
	return nil
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
