package relay

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// listen passes on what other replicas announce, as nudges, until ctx is done. Where it fails, polling finds the events a little later.
func (r *Relay) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if err := r.listenOnce(ctx); err != nil && ctx.Err() == nil {
			r.deps.Logger.WarnContext(ctx, "listening for other replicas' events failed, will try again", "error", err)
			_ = r.pause(ctx, time.Second) // ctx is looked at above
		}
	}
}

func (r *Relay) listenOnce(ctx context.Context) error {
	conn, err := r.connect(ctx)
	if err != nil {
		return err
	}
	defer r.disconnect(ctx, conn)
	if err := r.limited(ctx, db.New(conn).ListenOutbox); err != nil {
		return err
	}
	for {
		// Now and then the server is asked, so that a connection that the network lost is noticed.
		wait, cancel := context.WithTimeout(ctx, r.cfg.QueryTimeout)
		_, err := conn.WaitForNotification(wait)
		silent := wait.Err() != nil
		cancel()
		switch {
		case err == nil:
			r.Nudge()
		case ctx.Err() != nil:
			return ctx.Err()
		case !silent:
			return err
		default:
			if err := r.limited(ctx, db.New(conn).Ping); err != nil {
				return err
			}
		}
	}
}

// announce tells the leading relay, in another process, about commits here: at once for the first, and then at most once an interval for all that
// came meanwhile. It runs outside of the writers' transactions.
func (r *Relay) announce(ctx context.Context, queries *db.Queries, last time.Time) (time.Time, error) {
	if err := r.pause(ctx, r.cfg.NotifyInterval-time.Since(last)); err != nil {
		return last, err
	}
	select {
	case <-r.nudges: // of a commit that this notification covers too
	default:
	}
	return time.Now(), r.limited(ctx, queries.NotifyOutbox)
}

// connect opens a connection that is nobody else's.
func (r *Relay) connect(ctx context.Context) (*pgx.Conn, error) {
	cfg := r.deps.Pool.Config()
	conn, err := pgx.ConnectConfig(ctx, cfg.ConnConfig)
	if err != nil {
		return nil, err
	}
	if err := r.limited(ctx, func(ctx context.Context) error {
		if cfg.AfterConnect != nil { // as postgres.Open has it
			return cfg.AfterConnect(ctx, conn)
		}
		return db.New(conn).DetectDeadClient(ctx)
	}); err != nil {
		r.disconnect(ctx, conn)
		return nil, err
	}
	return conn, nil
}

// disconnect ends a connection, dead or idle. The server releases its locks with it, after whatever happened on it.
func (r *Relay) disconnect(ctx context.Context, conn *pgx.Conn) {
	timeout, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(timeout)
}
