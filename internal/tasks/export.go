package tasks

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/portable"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/transfer"
)

// TypeExport is the job type that writes a collection's items to a file in the object store.
const TypeExport = "export"

// exportBuffer is how much is written at a time.
const exportBuffer = 256 << 10

// export streams a collection to the store. The file is there once all of it is: an attempt that is cut short leaves nothing, and the next one begins anew.
type export struct {
	queries *db.Queries
	store   objects.Store
}

func newExport(pool *pgxpool.Pool, store objects.Store) jobs.Task {
	return &export{queries: db.New(pool), store: store}
}

// ExportParameters are what an export is asked for with.
type ExportParameters struct {
	CollectionID uuid.UUID `json:"collection_id" doc:"The collection whose items are exported." required:"true"`
	Format       string    `json:"format" doc:"Lines of NDJSON, or a zip of Markdown files with YAML front matter. Without it the path says which: markdown when it ends with .zip, else ndjson." enum:"ndjson,markdown"`
	Path         string    `json:"path,omitempty" doc:"The file in the object store, in exports/ and the collection's id; platform admins can name any. Without it the file is named after the job." min:"1" max:"512" pattern:"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$" message:"must be a path such as exports/notes/items.ndjson: letters, digits, '.', '_' and '-', '/' between folders, and a letter or a digit after each '/'"`
}

// ExportResult is the result of an export.
type ExportResult struct {
	Path   string `json:"path"`
	Format string `json:"format"`
	Bytes  int64  `json:"bytes"`
	Items  int64  `json:"items"`
	SHA256 string `json:"sha256"`
	// ETag is the object store's for this version of the file.
	ETag string `json:"etag"`
}

// Kind implements jobs.Task.
func (*export) Kind() jobs.Kind {
	return jobs.Kind{
		Name: TypeExport, Summary: "Writes all items of a collection to a file in the object store.", Scope: jobs.ScopeCollection, Files: true,
		Parameters: ExportParameters{},
	}
}

// Run implements jobs.Task.
func (e *export) Run(ctx context.Context, x *jobs.Execution) (any, error) {
	parameters, err := decode[ExportParameters](x)
	if err != nil {
		return nil, err
	}
	if e.store == nil {
		return nil, noStore()
	}
	rights, err := transferRights(ctx, e.queries, x, parameters.CollectionID)
	if err != nil {
		return nil, err
	}
	run := &exportRun{export: e, x: x, result: ExportResult{Path: parameters.Path, Format: transfer.Format(parameters.Format, parameters.Path)}}
	run.items = transfer.Exporter{Queries: e.queries, Collection: parameters.CollectionID}
	if run.result.Path == "" {
		run.result.Path = transfer.ExportPath(parameters.CollectionID, x.Job.ID, x.Job.Version, run.result.Format)
	}
	if err := transfer.CheckPath(run.result.Path, transfer.ExportFolder(parameters.CollectionID), rights.IsAdmin); err != nil {
		return nil, jobs.Permanent(jobs.Errorf(codeNotAllowed, "%w", err))
	}
	x.Report("writing items to the file")
	if run.total, err = e.queries.CountLiveItems(ctx, parameters.CollectionID); err != nil {
		return nil, fmt.Errorf("count the collection's items: %w", err)
	}
	if err := run.store(ctx); err != nil {
		return nil, fileError(err, run.result.Path)
	}
	return run.result, nil
}

// exportRun is one attempt at an export.
type exportRun struct {
	export *export
	x      *jobs.Execution
	items  transfer.Exporter
	total  int64
	saved  time.Time
	result ExportResult
}

// store writes the file: items are read and written at the same time. The version that it replaces is one that was there before the job was last known to
// be this worker's, so that a worker that is stalled after that does not replace the file of the one that took over.
func (r *exportRun) store(ctx context.Context) error {
	found, err := r.export.store.Stat(ctx, r.result.Path)
	over := objects.Version(found.ETag)
	switch {
	case errors.Is(err, objects.ErrNotFound):
		over = objects.NoVersion
	case err != nil:
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, out := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		_ = out.CloseWithError(r.write(ctx, out)) // never fails
	}()
	content := &summed{in: in, hash: sha256.New()}
	info, err := r.export.store.Create(ctx, r.result.Path, content, over)
	_ = in.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // never fails
	cancel()
	<-written
	if errors.Is(err, objects.ErrChanged) {
		return jobs.Errorf(codeFileChanged, "%s: somebody else replaced the file meanwhile", r.result.Path) // the next attempt replaces that one
	}
	if err != nil {
		return err
	}
	if info.Size != content.bytes {
		return fmt.Errorf("the object store has %d bytes of %d", info.Size, content.bytes)
	}
	r.result.Bytes, r.result.SHA256, r.result.ETag = content.bytes, hex.EncodeToString(content.hash.Sum(nil)), info.ETag
	return nil
}

// write writes all items. Before it says that this was all, it makes sure that the job is still this worker's.
func (r *exportRun) write(ctx context.Context, to io.Writer) error {
	out := bufio.NewWriterSize(to, exportBuffer)
	var writer transfer.Writer = portable.NewNDJSONWriter(out)
	if r.result.Format == transfer.Markdown {
		writer = portable.NewMarkdownWriter(out)
	}
	defer writer.Discard()
	for {
		if _, err := transferRights(ctx, r.export.queries, r.x, r.items.Collection); err != nil {
			return err
		}
		items, _, err := r.items.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		for i := range items {
			if err := writer.Write(items[i]); err != nil {
				return fmt.Errorf("write an item: %w", err)
			}
		}
		r.result.Items += int64(len(items))
		if err := r.save(ctx, saveInterval); err != nil {
			return err
		}
	}
	if err := writer.Close(); err != nil {
		return fmt.Errorf("end the file: %w", err)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("end the file: %w", err)
	}
	return r.save(ctx, 0)
}

func (r *exportRun) save(ctx context.Context, interval time.Duration) error {
	if time.Since(r.saved) < interval {
		return nil
	}
	r.saved = time.Now()
	return r.x.Save(ctx, r.result.Items, max(r.total, r.result.Items), struct{}{})
}

// summed counts and sums up what is read.
type summed struct {
	in    io.Reader
	hash  hash.Hash
	bytes int64
}

func (s *summed) Read(b []byte) (int, error) {
	n, err := s.in.Read(b)
	s.hash.Write(b[:n])
	s.bytes += int64(n)
	return n, err //nolint:wrapcheck // a reader returns io.EOF as it is
}
