package tasks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/portable"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/transfer"
	"github.com/atlas-platform/atlas/internal/zipstream"
)

// TypeImport is the job type that brings items from a file in the object store into a collection.
const TypeImport = "import"

const (
	onErrorSkip = "skip"
	onErrorFail = "fail"
	// maxImportErrors is how many errors a job tells; the others are counted. maxImportText is how long a part of one may be, and maxNamedErrors how many
	// the error of a failed job has.
	maxImportErrors = 50
	maxImportText   = 300
	maxNamedErrors  = 5
)

// importItems reads a file batch by batch. A batch, its events and the checkpoint are one transaction, so that an import that was cut short goes on
// exactly where it ended.
type importItems struct {
	pool    *pgxpool.Pool
	queries *db.Queries
	store   objects.Store
}

func newImport(pool *pgxpool.Pool, store objects.Store) jobs.Task {
	return &importItems{pool: pool, queries: db.New(pool), store: store}
}

// ImportParameters are what an import is asked for with.
type ImportParameters struct {
	CollectionID uuid.UUID `json:"collection_id" doc:"The collection that the items come into." required:"true"`
	Path         string    `json:"path" doc:"The file in the object store, in imports/ and the collection's id, as an upload answers it; platform admins can name any." required:"true" min:"1" max:"512" pattern:"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$" message:"must be a path such as imports/notes/items.ndjson: letters, digits, '.', '_' and '-', '/' between folders, and a letter or a digit after each '/'" example:"imports/01a1f0c2-8c2f-7d4b-8e3a-6f9b5c7d2e02/items.ndjson"`
	Format       string    `json:"format" doc:"Lines of NDJSON, or a zip of Markdown files. Without it the path says which: markdown when it ends with .zip, else ndjson." enum:"ndjson,markdown"`
	OnError      string    `json:"on_error" doc:"What becomes of items that are not right: skip leaves them out and tells of them in the result; fail looks through the whole file first, and imports nothing when there is one." enum:"skip,fail" default:"skip"`
	DryRun       bool      `json:"dry_run" doc:"Only says what an import would do." default:"false"`
}

// ImportResult is the result of an import.
type ImportResult struct {
	Path   string `json:"path"`
	Format string `json:"format"`
	DryRun bool   `json:"dry_run"`
	// Created and Unchanged count items, Unchanged those that were there already. Failed are not right, see Errors. Skipped are entries of an archive
	// that are no items.
	Created   int64 `json:"created"`
	Unchanged int64 `json:"unchanged"`
	Failed    int64 `json:"failed"`
	Skipped   int64 `json:"skipped"`
	// Errors are the first 50.
	Errors []ImportError `json:"errors"`
}

// ImportError is what is wrong with a line of the file, or a file of the archive.
type ImportError struct {
	Source  string `json:"source"`
	Pointer string `json:"pointer,omitempty"`
	Message string `json:"message"`
}

// importState is the checkpoint.
type importState struct {
	// File is the version of the file that the positions are of.
	File importFile `json:"file"`
	// Checked says that the whole file has been looked through, where that comes first.
	Checked  bool              `json:"checked"`
	Position portable.Position `json:"position"`
	Result   ImportResult      `json:"result"`
}

type importFile struct {
	ETag string `json:"etag"`
	Size int64  `json:"size"`
	// Modified is rounded as JSON has it, so that a resumed import sees what the first one saw.
	Modified time.Time `json:"modified"`
}

// Kind implements jobs.Task.
func (*importItems) Kind() jobs.Kind {
	return jobs.Kind{
		Name: TypeImport, Summary: "Brings items from a file in the object store into a collection.", Scope: jobs.ScopeCollection, Files: true,
		Parameters: ImportParameters{},
	}
}

// Run implements jobs.Task.
func (i *importItems) Run(ctx context.Context, x *jobs.Execution) (any, error) {
	parameters, err := decode[ImportParameters](x)
	if err != nil {
		return nil, err
	}
	if i.store == nil {
		return nil, noStore()
	}
	rights, err := transferRights(ctx, i.queries, x, parameters.CollectionID)
	if err != nil {
		return nil, err
	}
	if err := transfer.CheckPath(parameters.Path, transfer.ImportFolder(parameters.CollectionID), rights.IsAdmin); err != nil {
		return nil, jobs.Permanent(jobs.Errorf(codeNotAllowed, "%w", err))
	}
	run := &importRun{importItems: i, x: x, parameters: parameters}
	if err := run.start(ctx); err != nil {
		return nil, fileError(err, parameters.Path)
	}
	if parameters.OnError == onErrorFail && !run.state.Checked {
		x.Report("looking through the file")
		if err := run.pass(ctx, run.look); err != nil {
			return nil, fileError(err, parameters.Path)
		}
		if run.state.Result.Failed > 0 {
			return nil, jobs.Permanent(jobs.Errorf(codeInvalidItems, "%s", run.refusal()))
		}
		run.state.Checked, run.state.Position, run.state.Result = true, portable.Position{}, run.empty()
	}
	step, doing := run.store, "importing items"
	if parameters.DryRun {
		step, doing = run.try, "trying what an import would do"
	}
	x.Report(doing)
	if err := run.pass(ctx, step); err != nil {
		return nil, fileError(err, parameters.Path)
	}
	if r := run.state.Result; r.Failed > 0 && r.Created+r.Unchanged == 0 {
		return r, jobs.Permanent(jobs.Errorf(codeInvalidFile, "%s", run.nothing()))
	}
	return run.state.Result, nil
}

// importRun is one attempt at an import.
type importRun struct {
	*importItems
	x          *jobs.Execution
	parameters ImportParameters
	info       objects.Info
	state      importState
	batch      transfer.Collector
	total      int64
	saved      time.Time
}

// start finds the file, and the checkpoint that is about it.
func (r *importRun) start(ctx context.Context) (err error) {
	if r.info, err = r.importItems.store.Stat(ctx, r.parameters.Path); err != nil {
		return err
	}
	if r.x.Job.Checkpoint != nil && json.Unmarshal(r.x.Job.Checkpoint, &r.state) == nil && r.state.File.ETag != "" {
		if r.state.File.ETag != r.info.ETag {
			return objects.ErrChanged
		}
		return nil
	}
	r.state = importState{File: importFile{ETag: r.info.ETag, Size: r.info.Size, Modified: r.info.Modified.UTC().Truncate(time.Millisecond)}, Result: r.empty()}
	return nil
}

func (r *importRun) empty() ImportResult {
	return ImportResult{
		Path: r.parameters.Path, Format: transfer.Format(r.parameters.Format, r.parameters.Path), DryRun: r.parameters.DryRun, Errors: []ImportError{},
	}
}

// pass reads the file from the checkpoint to its end. step handles what was gathered, and saves the position after it.
func (r *importRun) pass(ctx context.Context, step func(ctx context.Context) error) error {
	reader, failed, stop, err := r.open(ctx)
	if err != nil {
		return err
	}
	defer stop()
	r.saved = time.Now()
	for {
		record, err := reader.Next()
		if broken := failed(); broken != nil { // an archive looks damaged then
			return broken
		}
		if errors.Is(err, io.EOF) {
			return step(ctx)
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return invalidFile(err)
		}
		r.state.Position = reader.Position()
		if full := r.take(record); full || time.Since(r.saved) >= saveInterval {
			if err := step(ctx); err != nil {
				return err
			}
			r.saved = time.Now()
		}
	}
}

// open opens the file at the checkpoint. failed tells what kept the store from being read.
func (r *importRun) open(ctx context.Context) (reader portable.Reader, failed func() error, stop func(), err error) {
	if r.state.Result.Format != transfer.Markdown {
		r.total = r.info.Size
		in := objects.NewReader(ctx, r.importItems.store, r.info)
		if _, err := in.Seek(r.state.Position.Offset, io.SeekStart); err != nil {
			return nil, nil, nil, err
		}
		return portable.ResumeNDJSON(in, r.state.Position), func() error { return nil }, func() { _ = in.Close() }, nil
	}
	in := objects.NewBlocks(ctx, r.importItems.store, r.info)
	archive, err := portable.ResumeMarkdown(in, r.info.Size, r.state.Position)
	if err != nil {
		_ = in.Close()
		if in.Err() != nil { // then it only looks damaged
			err = in.Err()
		}
		return nil, nil, nil, invalidFile(err)
	}
	r.total = archive.Files()
	return archive, in.Err, func() { _ = in.Close() }, nil
}

// take checks a record and adds it to the batch, or to the errors.
func (r *importRun) take(record portable.Record) (full bool) {
	wrong := record.Wrong
	var item transfer.Item
	switch {
	case record.Skipped:
		r.state.Result.Skipped++
	case len(wrong) == 0:
		if item, wrong = transfer.Check(record.Item, transfer.Latest(time.Now())); len(wrong) == 0 {
			item.Number = r.state.Position.Records
			return r.batch.Add(item)
		}
		fallthrough
	default:
		r.state.Result.Failed++
	}
	for _, w := range wrong {
		if len(r.state.Result.Errors) == maxImportErrors {
			break
		}
		r.state.Result.Errors = append(r.state.Result.Errors, ImportError{Source: record.Source, Pointer: abridge(w.Pointer), Message: abridge(w.Message)})
	}
	return false
}

// look counts without a look at the database.
func (r *importRun) look(ctx context.Context) error {
	r.batch.Reset()
	return r.x.Save(ctx, r.done(), r.total, r.state)
}

// store commits the batch with the checkpoint.
func (r *importRun) store(ctx context.Context) error {
	state := r.state.Result
	err := r.inTx(ctx, func(q *db.Queries, x *transfer.Importer) error {
		r.state.Result = state // of a transaction that was done again nothing stays
		if len(r.batch.Items) > 0 {
			created, err := x.Write(ctx, q, r.batch.Items, now())
			if err != nil {
				return err
			}
			r.count(created)
		}
		return r.x.SaveIn(ctx, q, r.done(), r.total, r.state) // last: the heartbeat waits for the job's row
	})
	if err != nil {
		return err
	}
	r.batch.Reset()
	return nil
}

var errDryRun = errors.New("nothing is to stay of this")

// try is store without anything that stays.
func (r *importRun) try(ctx context.Context) error {
	state := r.state.Result
	if len(r.batch.Items) > 0 {
		err := r.inTx(ctx, func(q *db.Queries, x *transfer.Importer) error {
			r.state.Result = state
			created, err := x.Try(ctx, q, r.batch.Items, now())
			if err != nil {
				return err
			}
			r.count(created)
			return errDryRun
		})
		if err != nil && !errors.Is(err, errDryRun) {
			return err
		}
	}
	r.batch.Reset()
	return r.x.Save(ctx, r.done(), r.total, r.state)
}

// inTx makes sure that the collection is there, and that whoever queued the job may bring items into it, until the commit.
func (r *importRun) inTx(ctx context.Context, work func(q *db.Queries, x *transfer.Importer) error) error {
	return raced(ctx, func() error {
		return postgres.InTx(ctx, r.pool, func(tx pgx.Tx) error {
			q := r.queries.WithTx(tx)
			if err := q.LockCollectionForImport(ctx, r.parameters.CollectionID); err != nil {
				return fmt.Errorf("lock the collection: %w", err)
			}
			rights, err := transferRights(ctx, q, r.x, r.parameters.CollectionID)
			if err != nil {
				return err
			}
			x := &transfer.Importer{
				Collection: r.parameters.CollectionID, Author: rights.OwnerID, Actor: r.x.Job.CreatedBy, Trace: r.x.Job.TraceID,
				File: r.parameters.Path + "\n" + r.state.File.ETag, Uploaded: r.state.File.Modified,
			}
			if r.x.Job.CreatedBy != nil {
				x.Author = *r.x.Job.CreatedBy
			}
			return work(q, x)
		})
	})
}

func (r *importRun) count(created int) {
	r.state.Result.Created += int64(created)
	r.state.Result.Unchanged += int64(len(r.batch.Items) - created)
}

// done is how far the file is read: in bytes, or in files of the archive.
func (r *importRun) done() int64 {
	if r.state.Result.Format == transfer.Markdown {
		return min(r.state.Position.Records, r.total)
	}
	return r.state.Position.Offset
}

// refusal says why nothing is imported.
func (r *importRun) refusal() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%d items are not right, so none was imported: ", r.state.Result.Failed)
	r.name(&out)
	return out.String()
}

// nothing says that the file has no item, and what may be the reason.
func (r *importRun) nothing() string {
	var out strings.Builder
	if r.state.Result.Format == transfer.Markdown {
		out.WriteString("no file of the archive could be read as an item: ")
		r.name(&out)
		return out.String()
	}
	out.WriteString("no line of the file could be read as an item: ")
	r.name(&out)
	out.WriteString(". Is it a zip of Markdown files? Then say format: markdown")
	return out.String()
}

// name names the first errors.
func (r *importRun) name(out *strings.Builder) {
	for i, e := range r.state.Result.Errors[:min(len(r.state.Result.Errors), maxNamedErrors)] {
		if i > 0 {
			out.WriteString("; ")
		}
		fmt.Fprintf(out, "%s: %s", e.Source, strings.TrimSpace(e.Pointer+" "+e.Message))
	}
	if len(r.state.Result.Errors) > maxNamedErrors {
		out.WriteString("; and more")
	}
}

// invalidFile says which errors are the file's own.
func invalidFile(err error) error {
	if errors.Is(err, zipstream.ErrFormat) || errors.Is(err, portable.ErrTooManyFiles) || errors.Is(err, portable.ErrUnpacked) {
		return jobs.Permanent(jobs.Errorf(codeInvalidFile, "the file can't be imported: %w", err))
	}
	return err
}

// abridge keeps what a report quotes short.
func abridge(text string) string {
	if len(text) <= maxImportText {
		return text
	}
	return strings.ToValidUTF8(text[:maxImportText], "") + "…"
}

// now is in the precision that PostgreSQL keeps.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
