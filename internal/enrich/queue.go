package enrich

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// JobType is the type of the jobs that fetch pages.
const JobType = "enrich"

// keyPrefix and a collection's id are the unique key of the job that fetches what is wanted in the collection.
const keyPrefix = "enrich:"

// defaultInterval is how often, more or less, a queue looks for pages that are wanted: so long the items of a bulk gather for one job.
const defaultInterval = 3 * time.Second

// PendingParameters are those of a job that fetches what is wanted in a collection.
type PendingParameters struct {
	CollectionID uuid.UUID `json:"collection_id"`
	Pending      bool      `json:"pending"`
}

// Queue makes a job for each collection in which items' changes asked for pages that no job fetches yet, however many these are. What jobs that ended
// left behind is nobody's any more: pages of cancelled ones are not wanted, those of others the next job's.
type Queue struct {
	logger   *slog.Logger
	pool     *pgxpool.Pool
	interval time.Duration
	nudge    func()
}

// NewQueue makes a queue; 0 means the default interval. nudge is called when jobs were made.
func NewQueue(logger *slog.Logger, pool *pgxpool.Pool, interval time.Duration, nudge func()) *Queue {
	if interval == 0 {
		interval = defaultInterval
	}
	return &Queue{logger: logger, pool: pool, interval: interval, nudge: nudge}
}

// Run looks until ctx is done.
func (q *Queue) Run(ctx context.Context) {
	timer := time.NewTimer(q.wait())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		switch made, err := q.Look(ctx); {
		case err != nil && ctx.Err() == nil:
			q.logger.WarnContext(ctx, "looking for pages to fetch failed", "error", err)
		case made > 0:
			q.nudge()
		}
		timer.Reset(q.wait())
	}
}

// wait is spread, so that replicas that start together don't look together.
func (q *Queue) wait() time.Duration {
	return q.interval*3/4 + rand.N(q.interval/2+1) //nolint:gosec // spreads load, guards nothing
}

// Look makes the jobs that are missing and returns how many these are.
func (q *Queue) Look(ctx context.Context) (made int, err error) {
	queries := db.New(q.pool)
	wanted, err := queries.AnyExtractsWanted(ctx)
	if err != nil {
		return 0, fmt.Errorf("look for pages to fetch: %w", err)
	}
	if !wanted {
		return 0, nil
	}
	if err := batches(func() (int64, error) { return queries.DropCancelledExtracts(ctx, wantBatch) }, "drop the pages of cancelled jobs"); err != nil {
		return 0, err
	}
	if err := batches(func() (int64, error) { return queries.ReleaseExtracts(ctx, wantBatch) }, "release the pages of jobs that ended"); err != nil {
		return 0, err
	}
	collections, err := queries.WantedCollections(ctx, keyPrefix)
	if err != nil {
		return 0, fmt.Errorf("look for collections with pages to fetch: %w", err)
	}
	for _, collection := range collections {
		created, err := q.queue(ctx, collection)
		if err != nil {
			return made, fmt.Errorf("queue the fetching of pages: %w", err)
		}
		if created {
			made++
		}
	}
	return made, nil
}

// queue makes a collection's job. The pages are the job's from then on, so that who cancels it while it waits cancels them.
func (q *Queue) queue(ctx context.Context, collection uuid.UUID) (created bool, err error) {
	var job db.Job
	err = postgres.InTx(ctx, q.pool, func(tx pgx.Tx) (err error) {
		queries := db.New(tx)
		job, created, err = jobs.Enqueue(ctx, queries, jobs.NewJob{
			Type: JobType, Parameters: PendingParameters{collection, true}, CollectionID: &collection, UniqueKey: keyPrefix + collection.String(),
		})
		if err != nil || !created {
			return err
		}
		_, err = queries.AdoptExtracts(ctx, job.ID, collection, wantBatch)
		return err
	})
	if err != nil || !created {
		return false, err
	}
	return true, adopt(ctx, db.New(q.pool), collection, job.ID)
}
