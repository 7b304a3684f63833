package postgres

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/pause"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// Connect opens a connection that is nobody else's, set up as the pool's are; limit bounds the setting up. Disconnect ends it.
func Connect(ctx context.Context, pool *pgxpool.Pool, limit time.Duration) (*pgx.Conn, error) {
	cfg := pool.Config()
	conn, err := pgx.ConnectConfig(ctx, cfg.ConnConfig)
	if err != nil || cfg.AfterConnect == nil {
		return conn, err //nolint:wrapcheck // pgx says what and where
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := cfg.AfterConnect(limited, conn); err != nil {
		Disconnect(ctx, conn)
		return nil, err //nolint:wrapcheck // as above
	}
	return conn, nil
}

// Disconnect ends a connection, dead or idle. The server releases its locks with it, after whatever happened on it.
func Disconnect(ctx context.Context, conn *pgx.Conn) {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(limited)
}

// Listener passes on notifications, which may be lost: whoever is nudged has to look now and then by itself too.
type Listener struct {
	Pool   *pgxpool.Pool
	Logger *slog.Logger
	// Listen is the statement, of package db.
	Listen func(*db.Queries, context.Context) error
	// Nudge is told once that listening has begun, and of every notification.
	Nudge func()
	// Limit bounds a statement. Check is how often a silent connection is looked at: the network may have lost it.
	Limit, Check time.Duration
}

// Run listens on a connection of its own, which it opens anew when it fails, until ctx is done.
func (l Listener) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := l.listen(ctx); err != nil && ctx.Err() == nil {
			l.Logger.WarnContext(ctx, "listening for notifications failed, will try again", "error", err)
			_ = pause.For(ctx, time.Second) // ctx is looked at above
		}
	}
}

func (l Listener) listen(ctx context.Context) error {
	conn, err := Connect(ctx, l.Pool, l.Limit)
	if err != nil {
		return err
	}
	defer Disconnect(ctx, conn)
	q := db.New(conn)
	ask := func(statement func(*db.Queries, context.Context) error) error {
		limited, cancel := context.WithTimeout(ctx, l.Limit)
		defer cancel()
		return statement(q, limited)
	}
	if err := ask(l.Listen); err != nil {
		return err
	}
	l.Nudge() // for what came before
	for {
		wait, cancel := context.WithTimeout(ctx, l.Check)
		_, err := conn.WaitForNotification(wait)
		silent := wait.Err() != nil
		cancel()
		switch {
		case err == nil:
			l.Nudge()
		case ctx.Err() != nil:
			return ctx.Err()
		case !silent:
			return err //nolint:wrapcheck // as above
		default:
			if err := ask((*db.Queries).Ping); err != nil {
				return err
			}
		}
	}
}
