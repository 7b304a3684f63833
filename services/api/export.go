package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/portable"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/transfer"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// exportAnswer streams an export.
type exportAnswer func(w http.ResponseWriter) error

// VisitExportNDJSONResponse implements gen.ExportNDJSONResponseObject.
func (a exportAnswer) VisitExportNDJSONResponse(w http.ResponseWriter) error { return a(w) }

// VisitExportMarkdownResponse implements gen.ExportMarkdownResponseObject.
func (a exportAnswer) VisitExportMarkdownResponse(w http.ResponseWriter) error { return a(w) }

// ExportNDJSON implements gen.StrictServerInterface.
func (s *server) ExportNDJSON(ctx context.Context, request gen.ExportNDJSONRequestObject) (gen.ExportNDJSONResponseObject, error) {
	answer, err := s.export(ctx, request.ID, ".ndjson", "application/x-ndjson", func(out io.Writer) transfer.Writer { return portable.NewNDJSONWriter(out) })
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// ExportMarkdown implements gen.StrictServerInterface.
func (s *server) ExportMarkdown(ctx context.Context, request gen.ExportMarkdownRequestObject) (gen.ExportMarkdownResponseObject, error) {
	answer, err := s.export(ctx, request.ID, ".zip", "application/zip", func(out io.Writer) transfer.Writer { return portable.NewMarkdownWriter(out) })
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// export checks the rights and reads the first items, so that what goes wrong until then is answered with a problem.
func (s *server) export(
	ctx context.Context, collection uuid.UUID, extension, mediaType string, form func(io.Writer) transfer.Writer,
) (exportAnswer, error) {
	row, err := s.portableCollection(ctx, s.queries, collection)
	if err != nil {
		return nil, err
	}
	user := caller(ctx).id()
	x := &exporter{server: s, items: transfer.Exporter{Queries: s.queries, Collection: collection, User: &user}}
	var first []portable.Item
	if !isHead(ctx) {
		if first, err = x.next(ctx); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	return func(w http.ResponseWriter) error {
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Content-Disposition", attachment(row.Name, extension))
		w.WriteHeader(http.StatusOK)
		if isHead(ctx) {
			return nil
		}
		x.send(ctx, w, form, first)
		return nil
	}, nil
}

// portableCollection is the collection that items leave or come into, while the caller is a member.
func (s *server) portableCollection(ctx context.Context, q *db.Queries, id uuid.UUID) (db.GetPortableCollectionRow, error) {
	row, err := q.GetPortableCollection(ctx, caller(ctx).id(), id)
	if missing(err) {
		return row, notFound(noCollection)
	}
	if err != nil {
		return row, fmt.Errorf("read the collection: %w", err)
	}
	return row, nil
}

// exporter reads a collection for a caller.
type exporter struct {
	server *server
	items  transfer.Exporter
}

// send streams everything. When it can't, it breaks the connection off, so that nobody takes a part for the whole.
func (x *exporter) send(ctx context.Context, w http.ResponseWriter, form func(io.Writer) transfer.Writer, batch []portable.Item) {
	p := newPace(w)
	p.whole = true
	p.extend()
	out := bufio.NewWriterSize(pacedWriter{answer: w, pace: p}, transferStep)
	writer := form(out)
	defer writer.Discard()
	err := x.stream(ctx, writer, out, p, batch)
	if err == nil {
		return
	}
	switch _, known := toProblem(err); {
	case p.err != nil || known:
		x.server.logger.DebugContext(ctx, "an export ended early", slog.Any("error", err))
	default:
		x.server.logger.ErrorContext(ctx, "an export broke off", slog.Any("error", err))
	}
	panic(http.ErrAbortHandler)
}

func (x *exporter) stream(ctx context.Context, writer transfer.Writer, out *bufio.Writer, p *pace, batch []portable.Item) (err error) {
	for err == nil {
		for _, item := range batch {
			if err := writer.Write(item); err != nil {
				return fmt.Errorf("write an item: %w", err)
			}
		}
		if err := flush(out, p); err != nil {
			return err
		}
		batch, err = x.next(ctx)
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	if err := writer.Close(); err != nil {
		return fmt.Errorf("end the export: %w", err)
	}
	return flush(out, p)
}

func flush(out *bufio.Writer, p *pace) error {
	if err := out.Flush(); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	p.extend()
	if err := p.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		p.err = err
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// next returns the next items, or io.EOF. The caller and the rights are checked with each batch, and once more at the end: a collection that has just been deleted must not
// look like one that ends here.
func (x *exporter) next(ctx context.Context) ([]portable.Item, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	if err := stillCounts(ctx, x.server.queries); err != nil {
		return nil, err
	}
	items, fewer, err := x.items.Next(ctx)
	if fewer || errors.Is(err, io.EOF) {
		if _, err := x.server.portableCollection(ctx, x.server.queries, x.items.Collection); err != nil {
			return nil, err
		}
	}
	return items, err
}
