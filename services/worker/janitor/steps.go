package janitor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/tasks"
	"github.com/atlas-platform/atlas/internal/transfer"
)

// batchesAtOnce is for how many batches items are looked for at once.
const batchesAtOnce = 40

// round is one pass over everything.
type round struct {
	cfg     Config
	conn    *pgxpool.Conn
	queries *db.Queries
	store   objects.Store
	now     time.Time
	removed map[string]int64
}

type step struct {
	name string
	do   func(ctx context.Context) error
}

// steps are in the order in which one makes the next possible: a collection goes after its items.
func (r *round) steps() []step {
	size := r.cfg.BatchSize
	return []step{
		{"purge again", r.purgeAgain},
		{"items", r.items},
		{"collections", r.collections},
		{"finished jobs", r.each("jobs", func(ctx context.Context) (int64, error) {
			return r.queries.EraseFinishedJobs(ctx, r.ago(r.cfg.Jobs), size)
		})},
		{"item moves", r.each("item_moves", func(ctx context.Context) (int64, error) {
			return r.queries.EraseItemMoves(ctx, r.ago(moveLifetime), size)
		})},
		{"idempotency keys", r.each("idempotency_keys", func(ctx context.Context) (int64, error) {
			return r.queries.PruneIdempotencyKeys(ctx, r.ago(keyLifetime), size)
		})},
		{"sessions", r.each("sessions", func(ctx context.Context) (int64, error) {
			return r.queries.EraseSessions(ctx, r.ago(sessionLifetime), size)
		})},
		{"login attempts", r.each("login_attempts", func(ctx context.Context) (int64, error) {
			return r.queries.EraseLoginAttempts(ctx, r.ago(attemptsLifetime), size)
		})},
		{"API tokens", r.each("api_tokens", func(ctx context.Context) (int64, error) {
			return r.queries.EraseAPITokens(ctx, r.ago(tokenLifetime), size)
		})},
		{"exports", r.files("exports", transfer.Exports)},
		{"imports", r.files("imports", transfer.Imports)},
		{"unfinished files", r.unfinishedFiles},
	}
}

func (r *round) ago(d time.Duration) time.Time { return r.now.Add(-d) }

// each repeats a batch until one is not full: what was in use and left out waits for the next round.
func (r *round) each(kind string, batch func(ctx context.Context) (int64, error)) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		for {
			limited, cancel := context.WithTimeout(ctx, batchTimeout)
			rows, err := batch(limited)
			cancel()
			r.add(kind, rows)
			if err != nil || rows < int64(r.cfg.BatchSize) {
				return err
			}
		}
	}
}

// items removes the trash, as long as there is something that can be removed.
func (r *round) items(ctx context.Context) error {
	trashed, size := r.ago(r.cfg.Retention), int(r.cfg.BatchSize)
	atMost := r.cfg.BatchSize * batchesAtOnce
	for {
		limited, cancel := context.WithTimeout(ctx, batchTimeout)
		ids, err := r.queries.ItemsToErase(limited, trashed, trashed.Add(-unseenGrace), atMost)
		cancel()
		if err != nil {
			return fmt.Errorf("look for items: %w", err)
		}
		before := r.removed["items"]
		for batch := range slices.Chunk(ids, size) {
			limited, cancel := context.WithTimeout(ctx, batchTimeout)
			rows, err := r.queries.EraseItems(limited, batch, trashed)
			cancel()
			if err != nil {
				return err
			}
			r.add("items", rows)
		}
		if len(ids) < int(atMost) || r.removed["items"] == before {
			return nil
		}
	}
}

// add counts rows that are gone; kinds of which none went are not named.
func (r *round) add(kind string, rows int64) {
	if rows > 0 {
		r.removed[kind] += rows
	}
}

// collections removes those that have no items left, with what hangs on them. Nobody can see them: their deletion was announced long ago.
func (r *round) collections(ctx context.Context) error {
	for {
		ids, err := r.queries.CollectionsToErase(ctx, r.ago(r.cfg.Retention), r.cfg.BatchSize)
		if err != nil {
			return fmt.Errorf("look for collections: %w", err)
		}
		before := r.removed["collections"]
		for _, id := range ids {
			if err := r.collection(ctx, id); err != nil {
				return fmt.Errorf("collection %s: %w", id, err)
			}
		}
		if len(ids) < int(r.cfg.BatchSize) || r.removed["collections"] == before { // a collection stays while one of its jobs is in use
			return nil
		}
	}
}

func (r *round) collection(ctx context.Context, id uuid.UUID) error {
	size := r.cfg.BatchSize
	for _, step := range []func(ctx context.Context) error{
		r.each("tags", func(ctx context.Context) (int64, error) { return r.queries.EraseTags(ctx, id, size) }),
		r.each("memberships", func(ctx context.Context) (int64, error) { return r.queries.EraseMemberships(ctx, id, size) }),
		r.each("jobs", func(ctx context.Context) (int64, error) { return r.queries.EraseJobs(ctx, &id, size) }),
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	rows, err := r.queries.EraseCollection(ctx, id)
	r.add("collections", rows)
	return err
}

// purgeAgain queues a purge for each deleted collection that has live items and none on its way, in the name of whoever deleted it.
func (r *round) purgeAgain(ctx context.Context) error {
	stranded, err := r.queries.StrandedCollections(ctx, r.cfg.BatchSize)
	if err != nil {
		return fmt.Errorf("look for collections: %w", err)
	}
	for _, collection := range stranded {
		if err := r.queuePurge(ctx, collection); err != nil {
			return fmt.Errorf("queue the purge of collection %s: %w", collection.ID, err)
		}
	}
	return nil
}

func (r *round) queuePurge(ctx context.Context, collection db.StrandedCollectionsRow) error {
	return postgres.InTx(ctx, r.conn, func(tx pgx.Tx) error {
		_, _, err := jobs.Enqueue(ctx, r.queries.WithTx(tx), jobs.NewJob{
			Type: tasks.TypePurge, Parameters: map[string]uuid.UUID{"collection_id": collection.ID}, CollectionID: &collection.ID,
			CreatedBy: collection.CreatedBy,
		})
		return err
	})
}
