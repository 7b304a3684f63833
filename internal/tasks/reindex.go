package tasks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/indexing/rebuild"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// TypeReindex is the job type that brings all items, or those of one collection, into the search index again.
const TypeReindex = "reindex"

const (
	reindexPage = 500
	// maxReasons bounds how many refused items a failed job names.
	maxReasons = 5
	// reindexAttempts is more than usual: a long rebuild outlives many workers, and each attempt goes on where the last one ended.
	reindexAttempts = 20

	codeBusy = "busy"
)

// reindex rebuilds the whole index beside the one that is searched, or sends the items of the job's collection again, page by page, deleted ones
// included.
type reindex struct {
	queries *db.Queries
	items   *indexing.Indexer
	whole   *rebuild.Rebuilder // nil where PostgreSQL itself is searched
}

func newReindex(pool *pgxpool.Pool, items *indexing.Indexer, whole *rebuild.Rebuilder) jobs.Task {
	return &reindex{queries: db.New(pool), items: items, whole: whole}
}

// ReindexParameters are what a reindex is asked for with.
type ReindexParameters struct {
	CollectionID *uuid.UUID `json:"collection_id,omitempty" doc:"The collection whose items are sent to the index again; without it the whole index is rebuilt beside the one that is searched."`
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

// Kind implements jobs.Task.
func (*reindex) Kind() jobs.Kind {
	return jobs.Kind{
		Name: TypeReindex, Summary: "Rebuilds the search index without a pause, or sends the items of a collection to it again.",
		Scope: jobs.ScopeEither, Parameters: ReindexParameters{}, MaxAttempts: reindexAttempts,
	}
}

// Run implements jobs.Task.
func (r *reindex) Run(ctx context.Context, x *jobs.Execution) (any, error) {
	if x.Job.CollectionID == nil {
		return r.rebuild(ctx, x)
	}
	x.Report("sending items to the index again")
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
		if err := x.Save(ctx, state.Done, state.Total, reindexState{Total: state.Total}); err != nil { // a retry sends all again
			return nil, err
		}
		return nil, jobs.Permanent(fmt.Errorf("Elasticsearch refused %d of %d items: %s", //nolint:staticcheck // a name
			state.Refused, state.Done, strings.Join(state.Reasons, "; ")))
	}
	return reindexResult{Items: state.Done}, nil
}

func (r *reindex) rebuild(ctx context.Context, x *jobs.Execution) (any, error) {
	if r.whole == nil {
		return reindexResult{}, nil // PostgreSQL is searched, and has no other index
	}
	save := func(ctx context.Context, doing string, done, total int64, checkpoint any) error {
		x.Report(doing)
		return x.Save(ctx, done, total, checkpoint)
	}
	result, err := r.whole.Run(ctx, x.Job.ID, x.Job.Checkpoint, save)
	switch {
	case errors.Is(err, rebuild.ErrBusy):
		return nil, jobs.Later(jobs.Errorf(codeBusy, "%w", err))
	case rebuild.Hopeless(err):
		return nil, jobs.Permanent(err)
	case err != nil:
		return nil, err
	}
	return result, nil
}

// start reads the checkpoint, or makes the first one.
func (r *reindex) start(ctx context.Context, x *jobs.Execution) (reindexState, error) {
	var state reindexState
	exists, err := r.queries.CollectionExists(ctx, *x.Job.CollectionID)
	if err != nil {
		return state, fmt.Errorf("look for the collection: %w", err)
	}
	if !exists {
		return state, jobs.Permanent(errors.New("the collection does not exist"))
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
