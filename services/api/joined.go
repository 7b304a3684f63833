package api

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// joined sends the look-up of the caller along with the first query, in one round trip. When the caller is refused, the query fails with that
// answer; its result is not looked at.
type joined struct {
	*pgxpool.Pool
	server *server
	called *call
}

// reader are the queries for an operation that may be in confirmLater.
func (s *server) reader(ctx context.Context) *db.Queries { return db.New(s.join(ctx)) }

// join returns the pool, so that its first query confirms the caller, unless that was done.
func (s *server) join(ctx context.Context) db.DBTX {
	called := callOf(ctx)
	if !called.pending() {
		return s.pool
	}
	return joined{Pool: s.pool, server: s, called: called}
}

// first sends a query together with the look-up, and returns what is left to read: the query's own result.
func (j joined) first(ctx context.Context, query string, args []any) (pgx.BatchResults, error) {
	both := &companion{Pool: j.Pool, query: query, args: args}
	err := j.server.confirm(ctx, j.called, db.New(both))
	if err != nil && both.results != nil {
		_ = both.results.Close() // the caller is refused, whatever became of the query
	}
	return both.results, err
}

// Exec implements db.DBTX.
func (j joined) Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error) {
	if !j.called.pending() {
		return j.Pool.Exec(ctx, query, args...)
	}
	results, err := j.first(ctx, query, args)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := results.Exec()
	return tag, closed(results, err)
}

// Query implements db.DBTX.
func (j joined) Query(ctx context.Context, query string, args ...any) (pgx.Rows, error) {
	if !j.called.pending() {
		return j.Pool.Query(ctx, query, args...)
	}
	results, err := j.first(ctx, query, args)
	if err != nil {
		return nil, err
	}
	rows, err := results.Query()
	if err != nil {
		return nil, closed(results, err)
	}
	return &joinedRows{Rows: rows, results: results}, nil
}

// QueryRow implements db.DBTX.
func (j joined) QueryRow(ctx context.Context, query string, args ...any) pgx.Row {
	if !j.called.pending() {
		return j.Pool.QueryRow(ctx, query, args...)
	}
	results, err := j.first(ctx, query, args)
	if err != nil {
		return failedRow{err}
	}
	return joinedRow{row: results.QueryRow(), results: results}
}

// CopyFrom implements db.DBTX.
func (j joined) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	if err := j.server.confirm(ctx, j.called, db.New(j.Pool)); err != nil {
		return 0, err
	}
	return j.Pool.CopyFrom(ctx, table, columns, rows)
}

// companion is the pool, on which a look-up takes another query along.
type companion struct {
	*pgxpool.Pool
	query   string
	args    []any
	results pgx.BatchResults
}

// QueryRow implements db.DBTX. Every look-up of a caller asks for one row.
func (c *companion) QueryRow(ctx context.Context, query string, args ...any) pgx.Row {
	var batch pgx.Batch
	batch.Queue(query, args...)
	batch.Queue(c.query, c.args...)
	c.results = c.SendBatch(ctx, &batch)
	return c.results.QueryRow()
}

// joinedRow ends the batch when the row is read.
type joinedRow struct {
	row     pgx.Row
	results pgx.BatchResults
}

// Scan implements pgx.Row.
func (r joinedRow) Scan(dest ...any) error { return closed(r.results, r.row.Scan(dest...)) }

// joinedRows ends the batch when the rows are read or closed.
type joinedRows struct {
	pgx.Rows
	results pgx.BatchResults
	failed  error
}

// Next implements pgx.Rows.
func (r *joinedRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close() // as other rows do after the last one: the connection must be free then
	return false
}

// Close implements pgx.Rows.
func (r *joinedRows) Close() {
	r.Rows.Close()
	if err := r.results.Close(); r.failed == nil {
		r.failed = err
	}
}

// Err implements pgx.Rows.
func (r *joinedRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.failed
}

type failedRow struct{ err error }

// Scan implements pgx.Row.
func (r failedRow) Scan(...any) error { return r.err }

// closed ends a batch. The error that came first says more.
func closed(results pgx.BatchResults, err error) error {
	if end := results.Close(); err == nil {
		return end
	}
	return err
}
