package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/tasks"
	"github.com/atlas-platform/atlas/internal/transfer"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// jobFile is the file that an export made.
type jobFile struct {
	server *server
	job    uuid.UUID
	info   objects.Info
	part   byteRange
	header http.Header
}

// GetJobFile implements gen.StrictServerInterface.
func (s *server) GetJobFile(ctx context.Context, request gen.GetJobFileRequestObject) (gen.GetJobFileResponseObject, error) {
	job, err := jobFor(ctx, s.queries, request.ID)
	if err != nil {
		return nil, err
	}
	made, err := madeBy(job)
	if err != nil {
		return nil, err
	}
	info, err := s.madeFile(ctx, made)
	if err != nil {
		return nil, err
	}
	tag := `"` + made.SHA256 + `"`
	if request.Params.IfNoneMatch != nil && matchesTag(*request.Params.IfNoneMatch, tag) {
		return gen.GetJobFile304Response{Headers: gen.GetJobFile304ResponseHeaders{ETag: tag}}, nil
	}
	part, satisfiable := byteRange{length: info.Size}, true
	if request.Params.Range != nil && (request.Params.IfRange == nil || *request.Params.IfRange == tag) {
		part, satisfiable = parseRange(*request.Params.Range, info.Size)
	}
	if !satisfiable {
		return nil, rangeNotSatisfiable(info.Size)
	}
	name, err := s.collectionName(ctx, job.CollectionID)
	if err != nil {
		return nil, err
	}
	file := &jobFile{server: s, job: job.ID, info: info, part: part, header: http.Header{
		"Accept-Ranges": {"bytes"}, "Content-Disposition": {attachment(name, transfer.Extension(made.Format))}, "Content-Length": {strconv.FormatInt(part.length, 10)},
		"Content-Type": {mediaTypeOf(made.Format)}, "Etag": {tag},
	}}
	return jobFileAnswer(func(w http.ResponseWriter) error { return file.send(ctx, w) }), nil
}

// jobFileAnswer streams a file.
type jobFileAnswer func(w http.ResponseWriter) error

// VisitGetJobFileResponse implements gen.GetJobFileResponseObject.
func (a jobFileAnswer) VisitGetJobFileResponse(w http.ResponseWriter) error { return a(w) }

func mediaTypeOf(format string) string {
	if format == transfer.Markdown {
		return "application/zip"
	}
	return "application/x-ndjson"
}

// madeBy is what an export says that it made.
func madeBy(job db.Job) (made tasks.ExportResult, err error) {
	switch {
	case job.Type != tasks.TypeExport:
		return made, notFound("a job of type " + job.Type + " makes no file")
	case !finished(job.State):
		return made, conflict("job-not-finished", "the file is there once the job has SUCCEEDED; it is "+job.State)
	case gen.JobState(job.State) != gen.Succeeded:
		return made, notFound("the job made no file: it is " + job.State)
	}
	if err := json.Unmarshal(job.Result, &made); err != nil {
		return made, fmt.Errorf("read the job's result: %w", err)
	}
	return made, nil
}

// madeFile makes sure that the file is still the one which the job made. Somebody else's may be in its place, which the job's owners may not see.
func (s *server) madeFile(ctx context.Context, made tasks.ExportResult) (objects.Info, error) {
	if s.objects == nil {
		return objects.Info{}, gone(transfer.NoStore)
	}
	ctx, cancel := within(ctx)
	defer cancel()
	info, err := s.objects.Stat(ctx, made.Path)
	switch {
	case errors.Is(err, objects.ErrNotFound):
		return info, gone("the file was removed, as files are that have been kept long enough: export again")
	case err != nil:
		return info, s.storeProblem(ctx, err)
	case info.ETag != made.ETag || info.Size != made.Bytes:
		return info, gone("the file was replaced by another one: export again")
	}
	return info, nil
}

// collectionName is what the file is called after; empty for that of a collection which is gone.
func (s *server) collectionName(ctx context.Context, collection *uuid.UUID) (string, error) {
	if collection == nil {
		return "", nil
	}
	row, err := s.queries.GetTransferRights(ctx, nil, *collection)
	if missing(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the collection's name: %w", err)
	}
	return row.Name, nil
}

// send streams the part. When it can't, it breaks the connection off, so that nobody takes what has arrived for all of it.
func (f *jobFile) send(ctx context.Context, w http.ResponseWriter) error {
	status := http.StatusOK
	if f.part.asked {
		status = http.StatusPartialContent
		f.header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", f.part.offset, f.part.offset+f.part.length-1, f.info.Size))
	}
	for name, values := range f.header {
		w.Header()[name] = values
	}
	w.WriteHeader(status)
	if isHead(ctx) {
		return nil
	}
	p := newPace(w)
	p.whole = true
	p.extend()
	err := f.copy(ctx, pacedWriter{answer: w, pace: p})
	if err == nil {
		return nil
	}
	switch _, known := toProblem(err); {
	case p.err != nil || known:
		f.server.logger.DebugContext(ctx, "a download ended early", slog.Any("error", err))
	default:
		f.server.logger.ErrorContext(ctx, "a download broke off", slog.Any("error", err))
	}
	panic(http.ErrAbortHandler)
}

// copy looks at the rights again with each few megabytes.
func (f *jobFile) copy(ctx context.Context, out io.Writer) error {
	in := objects.NewReader(ctx, f.server.objects, f.info)
	defer func() { _ = in.Close() }()
	if _, err := in.Seek(f.part.offset, io.SeekStart); err != nil {
		return err
	}
	for left := f.part.length; left > 0; {
		n, err := io.CopyN(out, in, min(left, transfer.Bytes))
		if err != nil {
			return fmt.Errorf("send a file: %w", err)
		}
		if left -= n; left == 0 {
			return nil
		}
		if err := f.allowed(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (f *jobFile) allowed(ctx context.Context) error {
	ctx, cancel := within(ctx)
	defer cancel()
	if err := stillCounts(ctx, f.server.queries); err != nil {
		return err
	}
	_, err := jobFor(ctx, f.server.queries, f.job)
	return err
}
