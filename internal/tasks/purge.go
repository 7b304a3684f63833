package tasks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// TypePurge is the job type that follows the deletion of a collection: it deletes the items.
const TypePurge = "purge"

const purgeBatch = 1000

// purge deletes the items of a deleted collection softly, each with a version and an event of its own: that is how search learns that they are
// gone. A batch, its events and the checkpoint are one transaction, so that a purge which was cut short goes on exactly where it ended.
type purge struct {
	pool    *pgxpool.Pool
	queries *db.Queries
}

func newPurge(pool *pgxpool.Pool) jobs.Task { return &purge{pool: pool, queries: db.New(pool)} }

// PurgeParameters are what the platform queues a purge with.
type PurgeParameters struct {
	CollectionID uuid.UUID `json:"collection_id" doc:"The deleted collection." required:"true"`
}

// purgeState is the checkpoint.
type purgeState struct {
	After uuid.UUID `json:"after"`
	Done  int64     `json:"done"`
	Total int64     `json:"total"`
}

// purgeResult is the job's result.
type purgeResult struct {
	Items int64 `json:"items"`
}

// Kind implements jobs.Task.
func (*purge) Kind() jobs.Kind {
	return jobs.Kind{
		Name: TypePurge, Summary: "Deletes the items of a deleted collection; the platform queues it.", Scope: jobs.ScopeCollection, Parameters: PurgeParameters{},
		Internal: true,
	}
}

// Run implements jobs.Task. At the end it looks from the start once more: what another transaction committed behind its back is found then.
func (p *purge) Run(ctx context.Context, x *jobs.Execution) (any, error) {
	x.Report("deleting items")
	state, err := p.start(ctx, x)
	if err != nil {
		return nil, err
	}
	for fromStart := state.After == uuid.Nil; ; {
		next, err := p.batch(ctx, x, state)
		if err != nil {
			return nil, err
		}
		if next.Done > state.Done {
			state, fromStart = next, false
			continue
		}
		if fromStart {
			return purgeResult{Items: state.Done}, nil
		}
		state.After, fromStart = uuid.Nil, true
	}
}

// start reads the checkpoint, or makes the first one.
func (p *purge) start(ctx context.Context, x *jobs.Execution) (purgeState, error) {
	var state purgeState
	if x.Job.CollectionID == nil {
		return state, jobs.Permanent(errors.New("the job names no collection"))
	}
	deleted, err := p.queries.CollectionDeleted(ctx, *x.Job.CollectionID)
	if err != nil {
		return state, fmt.Errorf("look for the collection: %w", err)
	}
	if !deleted {
		return state, jobs.Permanent(errors.New("the collection is not deleted"))
	}
	if x.Job.Checkpoint != nil {
		if err := json.Unmarshal(x.Job.Checkpoint, &state); err == nil {
			return state, nil
		}
		state = purgeState{} // of a version that is gone: from the start
	}
	if state.Total, err = p.queries.CountLiveItems(ctx, *x.Job.CollectionID); err != nil {
		return state, fmt.Errorf("count the collection's items: %w", err)
	}
	return state, x.Save(ctx, 0, state.Total, state)
}

// batch deletes the next items and returns the state after them: the same one when there are none.
func (p *purge) batch(ctx context.Context, x *jobs.Execution, state purgeState) (purgeState, error) {
	collection, at := *x.Job.CollectionID, time.Now().UTC().Truncate(time.Microsecond)
	err := postgres.InTx(ctx, p.pool, func(tx pgx.Tx) error {
		q := p.queries.WithTx(tx)
		rows, err := q.DeleteItemsOfCollection(ctx, db.DeleteItemsOfCollectionParams{
			DeletedAt: &at, DeletedBy: x.Job.CreatedBy, CollectionID: collection, AfterID: state.After, BatchSize: purgeBatch,
		})
		if err != nil {
			return fmt.Errorf("delete items: %w", err)
		}
		if len(rows) == 0 {
			return nil
		}
		slices.SortFunc(rows, func(a, b db.DeleteItemsOfCollectionRow) int { return bytes.Compare(a.ID[:], b.ID[:]) })
		events := make([]event.Envelope, len(rows))
		for i, row := range rows {
			events[i], err = event.New(event.ItemDeleted, event.Entity{Type: event.EntityItem, ID: row.ID, CollectionID: &collection},
				event.Origin{ActorUserID: x.Job.CreatedBy, TraceID: x.Job.TraceID}, at, event.ItemData{
					ItemID: row.ID, CollectionID: collection, EntityVersion: row.Version, ChangedFields: []string{}, SourceURL: row.SourceUrl,
				})
			if err != nil {
				return err
			}
		}
		state.After, state.Done = rows[len(rows)-1].ID, state.Done+int64(len(rows))
		state.Total = max(state.Total, state.Done)
		if err := postgres.WriteEvents(ctx, q, events); err != nil {
			return err
		}
		return x.SaveIn(ctx, q, state.Done, state.Total, state) // last: the heartbeat waits for the job's row
	})
	return state, err
}
