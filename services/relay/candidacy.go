package relay

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// candidacy holds one connection: it waits for leadership on it and leads until something breaks.
func (r *Relay) candidacy(ctx context.Context, healthy func()) error {
	conn, err := postgres.Connect(ctx, r.deps.Pool, r.cfg.QueryTimeout)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer postgres.Disconnect(ctx, conn)
	queries := db.New(conn)
	if err := r.limited(ctx, func(ctx context.Context) error {
		return errors.Join(queries.KeepPlans(ctx), queries.HoldLeadership(ctx, strconv.FormatInt(r.cfg.Lease.Milliseconds(), 10)))
	}); err != nil {
		return fmt.Errorf("set up the connection: %w", err)
	}
	elected, err := r.stand(ctx, queries, healthy)
	if err != nil {
		return err
	}
	producer, err := r.deps.NewProducer()
	if err != nil {
		return err
	}
	defer func() {
		if err := producer.Close(); err != nil {
			r.deps.Logger.WarnContext(ctx, "closing the relay's producer failed", "error", err)
		}
	}()
	r.deps.Logger.InfoContext(ctx, "relay leads")
	r.leading.Store(true)
	r.metrics.leading.Set(1)
	defer func() {
		r.leading.Store(false)
		r.metrics.leading.Set(0)
		r.deps.Logger.InfoContext(context.WithoutCancel(ctx), "relay leads no more")
	}()
	reader, err := postgres.Connect(ctx, r.deps.Pool, r.cfg.QueryTimeout)
	if err != nil {
		return fmt.Errorf("connect to the database once more, to read: %w", err)
	}
	defer postgres.Disconnect(ctx, reader)
	if err := r.limited(ctx, db.New(reader).KeepPlans); err != nil {
		return fmt.Errorf("set up the connection that reads: %w", err)
	}
	aside, cancel := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer cancel()
	helpers.Go(func() { r.listen(aside) })
	helpers.Go(func() { r.prune(aside) })
	lead := &leader{relay: r, queries: queries, reader: reader, producer: producer, healthy: healthy, heard: elected}
	return lead.run(ctx)
}

// stand waits for leadership and meanwhile announces commits here to the relay that has it. It returns when the leadership was asked for that it got.
func (r *Relay) stand(ctx context.Context, queries *db.Queries, healthy func()) (elected time.Time, err error) {
	ticker := time.NewTicker(r.cfg.StandbyInterval)
	defer ticker.Stop()
	var announced time.Time
	for {
		asked, leads := time.Now(), false
		err := r.limited(ctx, func(ctx context.Context) (err error) {
			leads, err = queries.TryLeadership(ctx, leadershipKey)
			return err
		})
		if err != nil {
			return time.Time{}, fmt.Errorf("ask for leadership: %w", err)
		}
		if leads {
			return asked, nil
		}
		r.failure.Store(nil)
		healthy()
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return time.Time{}, ctx.Err()
			case <-ticker.C:
				waiting = false
			case <-r.nudges:
				if announced, err = r.announce(ctx, queries, announced); err != nil {
					return time.Time{}, fmt.Errorf("announce commits: %w", err)
				}
			}
		}
	}
}
