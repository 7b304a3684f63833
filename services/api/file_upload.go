package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/transfer"
	"github.com/atlas-platform/atlas/services/api/gen"
)

const (
	// maxUpload is how large a file may be.
	maxUpload = 4 << 30
	// storePause is from when on the object store's own time does not count as the caller's.
	storePause = time.Second
	// dropTimeout is how long a file may take to be removed that must not stay.
	dropTimeout = 10 * time.Second
)

// UploadFile implements gen.StrictServerInterface. The file has a name of its own: what was uploaded before stays as it is.
func (s *server) UploadFile(ctx context.Context, request gen.UploadFileRequestObject) (gen.UploadFileResponseObject, error) {
	c, ok := ctx.(*gin.Context)
	if !ok {
		return nil, errors.New("an upload needs the request itself")
	}
	if err := s.checkJobs(ctx, request.ID); err != nil {
		return nil, err
	}
	if s.objects == nil {
		return nil, noObjectStore()
	}
	if c.Request.ContentLength > maxUpload {
		return nil, tooLarge(maxUpload)
	}
	name, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("name the file: %w", err)
	}
	format := ""
	if request.Params.Format != nil {
		format = string(*request.Params.Format)
	}
	path := transfer.ImportFolder(request.ID) + name.String() + transfer.Extension(format)

	p := newPace(c.Writer)
	info, err := s.objects.Create(ctx, path, &storedBody{
		pacedReader: pacedReader{body: http.MaxBytesReader(c.Writer, io.NopCloser(request.Body), maxUpload), pace: p},
	}, objects.AnyVersion)
	p.extend() // the store may have taken its time
	if err != nil {
		if refused := p.problem(err); refused != nil {
			return nil, refused
		}
		return nil, s.storeProblem(ctx, err)
	}
	if err := s.stillHandles(ctx, request.ID); err != nil {
		s.dropFile(ctx, path)
		return nil, err
	}
	return gen.UploadFile201JSONResponse{Path: path, Bytes: info.Size}, nil
}

// stillHandles is checkJobs for later: whether the caller still counts, and may still handle the collection's jobs.
func (s *server) stillHandles(ctx context.Context, collection uuid.UUID) error {
	ctx, cancel := within(ctx)
	defer cancel()
	if err := stillCounts(ctx, s.queries); err != nil {
		return err
	}
	return s.checkJobs(ctx, collection)
}

// dropFile removes a file that nobody is told of. If it can't, the janitor does it some day.
func (s *server) dropFile(ctx context.Context, path string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
	defer cancel()
	if err := s.objects.Delete(ctx, path); err != nil {
		s.logger.WarnContext(ctx, "an upload that was not allowed any more could not be removed", slog.String("path", path), slog.Any("error", err))
	}
}

// storeProblem is the answer when the object store fails.
func (s *server) storeProblem(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	s.logger.ErrorContext(ctx, "the object store failed", slog.Any("error", err))
	return unavailable("the object store can't be used at the moment")
}

// storedBody is a request's body that is read as fast as the object store takes it. While that works, the caller can't send.
type storedBody struct {
	pacedReader
	last time.Time
}

func (b *storedBody) Read(content []byte) (int, error) {
	if time.Since(b.last) > storePause {
		b.pace.extend()
	}
	n, err := b.pacedReader.Read(content)
	b.last = time.Now()
	return n, err
}
