package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/portable"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/telemetry"
	"github.com/atlas-platform/atlas/internal/transfer"
	"github.com/atlas-platform/atlas/internal/zipstream"
	"github.com/atlas-platform/atlas/services/api/gen"
)

const (
	// maxNDJSON and maxZip are the limits of an import's body.
	maxNDJSON = 1 << 30
	maxZip    = 256 << 20
	// maxImportErrors is how many errors are told; the others are counted. maxImportText is how long a part of one may be.
	maxImportErrors = 1000
	maxImportText   = 300
	// zipBegin is what a zip archive begins with.
	zipBegin = "PK\x03\x04"
)

// ImportNDJSON implements gen.StrictServerInterface.
func (s *server) ImportNDJSON(ctx context.Context, request gen.ImportNDJSONRequestObject) (gen.ImportNDJSONResponseObject, error) {
	x, body, err := s.startImport(ctx, request.ID, request.Body, maxNDJSON)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewReader(body)
	// What can't be read is told of by whoever reads on. No line of JSON begins like this.
	if begin, _ := lines.Peek(len(zipBegin)); string(begin) == zipBegin {
		return nil, badRequest("the body is a zip archive: send it with Content-Type: application/zip")
	}
	if err := x.run(ctx, portable.NewNDJSONReader(lines)); err != nil {
		return nil, err
	}
	return gen.ImportNDJSON200JSONResponse(x.result), nil
}

// ImportMarkdown implements gen.StrictServerInterface. A zip archive's directory is at its end, so the archive is stored first.
func (s *server) ImportMarkdown(ctx context.Context, request gen.ImportMarkdownRequestObject) (gen.ImportMarkdownResponseObject, error) {
	x, body, err := s.startImport(ctx, request.ID, request.Body, maxZip)
	if err != nil {
		return nil, err
	}
	file, size, err := x.spool(ctx, body)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	reader, err := portable.NewMarkdownReader(file, size)
	if err != nil {
		return nil, x.interrupted(err)
	}
	if err := x.run(ctx, reader); err != nil {
		return nil, err
	}
	return gen.ImportMarkdown200JSONResponse(x.result), nil
}

// importer brings items into a collection, a batch at a time.
type importer struct {
	*server
	collection uuid.UUID
	pace       *pace
	result     gen.ImportResult
	batch      transfer.Collector
	full       bool // the batch is to be written
}

// startImport checks the rights before the body is read.
func (s *server) startImport(ctx context.Context, collection uuid.UUID, body io.Reader, limit int64) (*importer, io.Reader, error) {
	c, ok := ctx.(*gin.Context)
	if !ok {
		return nil, nil, errors.New("an import needs the request itself")
	}
	if err := s.mayImport(ctx, s.queries, collection); err != nil {
		return nil, nil, err
	}
	if c.Request.ContentLength > limit {
		return nil, nil, tooLarge(limit)
	}
	p := newPace(c.Writer)
	x := &importer{server: s, collection: collection, pace: p, result: gen.ImportResult{Errors: []gen.ImportError{}}}
	return x, pacedReader{body: http.MaxBytesReader(c.Writer, io.NopCloser(body), limit), pace: p}, nil
}

// mayImport returns an error when the caller can't bring items into the collection, or not any more.
func (s *server) mayImport(ctx context.Context, q *db.Queries, collection uuid.UUID) error {
	row, err := s.portableCollection(ctx, q, collection)
	if err == nil && !canEdit(row.Role) {
		return needsRole(row.Role, gen.Owner, gen.Editor)
	}
	return err
}

// spool stores the body in a file that is gone when it is closed.
func (x *importer) spool(ctx context.Context, body io.Reader) (*os.File, int64, error) {
	file, err := zipstream.TempFile()
	if err != nil {
		x.logger.ErrorContext(ctx, "an import has no place for its archive: TMPDIR must be writable", "error", err)
		return nil, 0, unavailable("there is no room for the archive")
	}
	size, err := io.Copy(file, body)
	if err == nil {
		return file, size, nil
	}
	file.Close()
	if errors.Is(x.pace.err, io.EOF) || x.pace.err == nil { // the body was fine: the disk was not
		x.logger.ErrorContext(ctx, "an import has no room for its archive", "error", err)
		return nil, 0, unavailable("there is no room for the archive")
	}
	return nil, 0, x.interrupted(err)
}

// run imports everything that the reader has. What is committed before an error stays, and the error says how much that is.
func (x *importer) run(ctx context.Context, reader portable.Reader) error {
	for {
		record, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return x.interrupted(x.commit(ctx))
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return x.interrupted(err)
		}
		x.take(record)
		if x.full {
			if err := x.commit(ctx); err != nil {
				return x.interrupted(err)
			}
		}
	}
}

// take checks a record and adds it to the batch, or to the errors.
func (x *importer) take(record portable.Record) {
	if record.Skipped {
		x.result.Skipped++
		x.report(record.Source, record.Wrong)
		return
	}
	wrong := record.Wrong
	var item transfer.Item
	if len(wrong) == 0 {
		item, wrong = transfer.Check(record.Item, transfer.Latest(x.now()))
	}
	if len(wrong) > 0 {
		x.result.Failed++
		x.report(record.Source, wrong)
		return
	}
	x.full = x.batch.Add(item)
}

func (x *importer) report(source string, wrong []portable.FieldError) {
	for _, w := range wrong {
		if len(x.result.Errors) == maxImportErrors {
			return
		}
		e := gen.ImportError{Source: source, Message: abridge(w.Message)}
		if w.Pointer != "" {
			pointer := abridge(w.Pointer)
			e.Pointer = &pointer
		}
		x.result.Errors = append(x.result.Errors, e)
	}
}

// interrupted turns what ended an import into its answer, and says how far it got.
func (x *importer) interrupted(err error) error {
	if err == nil {
		return nil
	}
	p := x.pace.problem(err)
	switch {
	case p != nil:
	case errors.Is(err, portable.ErrTooManyFiles), errors.Is(err, portable.ErrUnpacked):
		p = tooLarge(0)
		p.detail = err.Error()
	case errors.Is(err, zipstream.ErrFormat):
		p = badRequest("the body is not a zip archive, or a damaged one")
	case errors.As(err, &p):
	default:
		p, _ = toProblem(err)
		if p.status == http.StatusInternalServerError {
			return err
		}
	}
	if x.result.Created+x.result.Existing == 0 {
		return p
	}
	out := *p
	out.detail = fmt.Sprintf("%s; before that, %d items were imported and %d were there already: it can be sent again", p.detail, x.result.Created, x.result.Existing)
	return &out
}

// commit writes the batch and lets go of it.
func (x *importer) commit(ctx context.Context) error {
	x.full = false
	if len(x.batch.Items) == 0 {
		return nil
	}
	x.pace.extend()
	defer x.pace.extend()
	created, err := x.write(ctx)
	if err != nil {
		return err
	}
	x.result.Created += int64(created)
	x.result.Existing += int64(len(x.batch.Items) - created)
	x.batch.Reset()
	return nil
}

// write stores the batch in one transaction and returns how many items are new.
func (x *importer) write(ctx context.Context) (int, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	return retried(ctx, func() (created int, err error) {
		err = x.server.write(ctx, func(q *db.Queries) error {
			created, err = x.writeIn(ctx, q)
			return err
		})
		return created, err
	})
}

func (x *importer) writeIn(ctx context.Context, q *db.Queries) (int, error) {
	if err := q.LockCollectionForImport(ctx, x.collection); err != nil {
		return 0, fmt.Errorf("lock the collection: %w", err)
	}
	if err := stillCounts(ctx, q); err != nil {
		return 0, err
	}
	if err := x.mayImport(ctx, q, x.collection); err != nil {
		return 0, err
	}
	p := caller(ctx)
	items := transfer.Importer{Collection: x.collection, Author: p.id(), Actor: p.actor()}
	if t := telemetry.TraceFrom(ctx); t.ID != "" {
		items.Trace = &t.ID
	}
	return items.Write(ctx, q, x.batch.Items, x.now())
}

// abridge keeps what a report quotes short.
func abridge(text string) string {
	if len(text) <= maxImportText {
		return text
	}
	return strings.ToValidUTF8(text[:maxImportText], "") + "…"
}
