package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrExited says that the server ended before it was ready; its log says why.
var ErrExited = errors.New("the server has ended")

// WaitReady waits until the server answers a query, and makes sure that the database is there. exited tells that there is
// nothing more to wait for; it may be nil.
func (p *Prepared) WaitReady(ctx context.Context, exited <-chan struct{}) error {
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for {
		err := p.Ready(ctx)
		if err == nil {
			return nil
		}
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code != startingUp {
			return fmt.Errorf("PostgreSQL: %w", err)
		}
		select {
		case <-exited:
			return fmt.Errorf("PostgreSQL: %w", ErrExited)
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL isn't ready: %w (%w)", ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// startingUp is the SQLSTATE cannot_connect_now: starting, recovering or shutting down.
const startingUp = "57P03"

// Ready asks the server once, and creates the database when it isn't there.
func (p *Prepared) Ready(ctx context.Context) error {
	admin, err := url.Parse(p.URL)
	if err != nil {
		return fmt.Errorf("database URL: %w", err)
	}
	admin.Path = "/postgres"
	conn, err := pgx.Connect(ctx, admin.String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", p.database).Scan(&exists); err != nil {
		return err
	}
	if exists {
		return nil
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{p.database}.Sanitize())
	return err
}
