package audit

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// rollbackTimeout bounds the wait for a rollback. A connection that does not answer is given up.
const rollbackTimeout = 2 * time.Second

// pipeline is a connection that sends statements without a result along with the next query, in one round trip. Their errors come with it.
type pipeline struct {
	conn    *pgxpool.Conn
	pending pgx.Batch
}

var _ db.DBTX = (*pipeline)(nil)

func (p *pipeline) queue(statement string, args ...any) { p.pending.Queue(statement, args...) }

// send sends what is pending and reads the results of all but the last statement.
func (p *pipeline) send(ctx context.Context) (pgx.BatchResults, error) {
	n := p.pending.Len()
	batch := p.pending
	p.pending = pgx.Batch{}
	results := p.conn.SendBatch(ctx, &batch)
	for range n - 1 {
		if _, err := results.Exec(); err != nil {
			_ = results.Close() // says the same
			return nil, err
		}
	}
	return results, nil
}

// flush sends what is pending.
func (p *pipeline) flush(ctx context.Context) error {
	results, err := p.send(ctx)
	if err != nil {
		return err
	}
	return results.Close()
}

// Exec implements db.DBTX.
func (p *pipeline) Exec(_ context.Context, statement string, args ...any) (pgconn.CommandTag, error) {
	p.queue(statement, args...)
	return pgconn.CommandTag{}, nil
}

// Query implements db.DBTX.
func (p *pipeline) Query(ctx context.Context, query string, args ...any) (pgx.Rows, error) {
	p.queue(query, args...)
	results, err := p.send(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := results.Query()
	if err != nil {
		_ = results.Close() // says the same
		return nil, err
	}
	return &lastRows{Rows: rows, results: results}, nil
}

// QueryRow implements db.DBTX.
func (p *pipeline) QueryRow(context.Context, string, ...any) pgx.Row {
	panic("no query of the writer wants one row")
}

// CopyFrom implements db.DBTX.
func (p *pipeline) CopyFrom(context.Context, pgx.Identifier, []string, pgx.CopyFromSource) (int64, error) {
	panic("no query of the writer copies")
}

// rollback leaves the transaction, also after ctx is done. What was queued is dropped.
func (p *pipeline) rollback(ctx context.Context) {
	if p.conn.Conn().PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_, _ = p.conn.Exec(ctx, "rollback") // or the connection is ended when it is released
}

// lastRows ends the batch along with the rows of its last statement.
type lastRows struct {
	pgx.Rows
	results pgx.BatchResults
}

// Next implements pgx.Rows.
func (r *lastRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

// Close implements pgx.Rows.
func (r *lastRows) Close() {
	r.Rows.Close()
	_ = r.results.Close() // an error is the rows' too
}
