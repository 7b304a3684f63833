package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// TypeReindex is the job type that sends all items of one collection to the search index again.
const TypeReindex = "reindex"

const (
	reindexPage = 500
	// maxReasons bounds how many refused items a failed job names.
	maxReasons = 5
)

// reindex re-sends a collection's items in place, page by page, deleted ones included.
type reindex struct {
	queries *db.Queries
	items   *indexing.Indexer
}

func newReindex(pool *pgxpool.Pool, items *indexing.Indexer) Task {
	return &reindex{queries: db.New(pool), items: items}
}

// reindexState is the checkpoint.
type reindexState struct {
	After   uuid.UUID `json:"after"`
	Done    int64     `json:"done"`
	Total   int64     `json:"total"`
	Refused int64     `json:"refused"`
	Reasons []string  `json:"reasons,omitempty"`
}

// reindexResult is the job's result.
type reindexResult struct {
	Items int64 `json:"items"`
}

// Run implements Task.
func (r *reindex) Run(ctx context.Context, x *Execution) (any, error) {
	state, err := r.start(ctx, x)
	if err != nil {
		return nil, err
	}
	collection := *x.Job.CollectionID
	for {
		page, err := r.items.Page(ctx, collection, state.After, reindexPage)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			break
		}
		rejections, err := r.items.Rewrite(ctx, page)
		if err != nil {
			return nil, err
		}
		state.After = page[len(page)-1].ItemID
		state.add(len(page), rejections)
		if err := x.Save(ctx, state.Done, state.Total, state); err != nil {
			return nil, err
		}
	}
	if state.Refused > 0 {
		return nil, Permanent(fmt.Errorf("Elasticsearch refused %d of %d items: %s", //nolint:staticcheck // a name
			state.Refused, state.Done, strings.Join(state.Reasons, "; ")))
	}
	return reindexResult{Items: state.Done}, nil
}

// start reads the checkpoint, or makes the first one.
func (r *reindex) start(ctx context.Context, x *Execution) (reindexState, error) {
	var state reindexState
	if x.Job.CollectionID == nil {
		return state, Permanent(errors.New("the job names no collection"))
	}
	exists, err := r.queries.CollectionExists(ctx, *x.Job.CollectionID)
	if err != nil {
		return state, fmt.Errorf("look for the collection: %w", err)
	}
	if !exists {
		return state, Permanent(errors.New("the collection does not exist"))
	}
	if x.Job.Checkpoint != nil {
		if err := json.Unmarshal(x.Job.Checkpoint, &state); err == nil {
			return state, nil
		}
		state = reindexState{} // of a version that is gone: from the start
	}
	if state.Total, err = r.queries.CountCollectionItems(ctx, *x.Job.CollectionID); err != nil {
		return state, fmt.Errorf("count the collection's items: %w", err)
	}
	return state, x.Save(ctx, 0, state.Total, state)
}

func (s *reindexState) add(items int, rejections []indexing.Rejection) {
	s.Done += int64(items)
	s.Total = max(s.Total, s.Done) // items that came meanwhile
	s.Refused += int64(len(rejections))
	for _, rejection := range rejections {
		if len(s.Reasons) < maxReasons {
			s.Reasons = append(s.Reasons, rejection.ItemID.String()+": "+rejection.Reason)
		}
	}
}
