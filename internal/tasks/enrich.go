package tasks

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/enrich"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/pause"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// TypeEnrich is the job type that fetches the pages at items' sources.
const TypeEnrich = enrich.JobType

// codeNoItems is of a job for no items at all.
const codeNoItems = "no_items"

const (
	// maxFailures bounds how many items a result names whose pages could not be had.
	maxFailures = 50
	// enrichJobs is how many collections are enriched at a time: the jobs wait for others' servers, and must leave workers to the other kinds.
	enrichJobs = 3
	// enrichPause is how long a job waits for pages whose rows somebody holds.
	enrichPause = 100 * time.Millisecond
)

type enrichTask struct{ enricher *enrich.Enricher }

func newEnrich(enricher *enrich.Enricher) jobs.Task { return &enrichTask{enricher} }

// EnrichParameters are what pages are asked for with.
type EnrichParameters struct {
	CollectionID uuid.UUID   `json:"collection_id" doc:"The collection whose items' sources are fetched." required:"true"`
	ItemIDs      []uuid.UUID `json:"item_ids,omitempty" doc:"Only these items of the collection; the others are left out." min:"1" max:"500"`
	Refresh      bool        `json:"refresh,omitempty" doc:"Fetch pages again that were fetched before." default:"false"`
	Pending      bool        `json:"pending,omitempty" doc:"Only pages that wait to be fetched, such as those of new items where the collection asks for it: what the platform itself queues." default:"false" without:"item_ids,refresh"`
}

// enrichState is the checkpoint. Which pages are still to be fetched is in the database.
type enrichState struct {
	Asked  bool         `json:"asked"`
	Wanted int64        `json:"wanted"` // of those that were asked for
	After  uuid.UUID    `json:"after"`
	Total  int64        `json:"total"`
	Result enrichResult `json:"result"`
}

// enrichResult is the job's result.
type enrichResult struct {
	Pages     int64           `json:"pages"`
	Changed   int64           `json:"changed"`
	Titled    int64           `json:"titled"`
	Unchanged int64           `json:"unchanged"`
	Failed    int64           `json:"failed"`
	Postponed int64           `json:"postponed"` // of the failed, what is tried again by itself
	Left      int64           `json:"left"`      // asked for and not fetched: another job asked later and has them, or their items went, moved or have another source
	Failures  []enrichFailure `json:"failures,omitempty"`
}

type enrichFailure struct {
	ItemID  uuid.UUID `json:"item_id"`
	Code    string    `json:"code"`
	Message string    `json:"message"`
}

// Kind implements jobs.Task.
func (*enrichTask) Kind() jobs.Kind {
	return jobs.Kind{
		Name: TypeEnrich, Summary: "Fetches the pages at items' sources: their text for search, and a title for items that have none.",
		Scope: jobs.ScopeCollection, Parameters: EnrichParameters{}, Concurrency: enrichJobs,
	}
}

// Run implements jobs.Task: it asks for the pages, or takes those that are no job's, then fetches its own until none is left.
func (t *enrichTask) Run(ctx context.Context, x *jobs.Execution) (any, error) {
	parameters, err := decode[EnrichParameters](x)
	if err != nil {
		return nil, err
	}
	if x.Job.CollectionID == nil {
		return nil, jobs.Permanent(errors.New("the job names no collection"))
	}
	if parameters.ItemIDs != nil && len(parameters.ItemIDs) == 0 { // of before the API refused it; it must not mean all
		return nil, jobs.Permanent(jobs.Errorf(codeNoItems, "item_ids is empty: name the items, or leave it out for all of the collection"))
	}
	var state enrichState
	if x.Job.Checkpoint == nil || json.Unmarshal(x.Job.Checkpoint, &state) != nil {
		state = enrichState{Asked: parameters.Pending}
	}
	if err := t.enricher.Resume(ctx, *x.Job.CollectionID, x.Job.ID); err != nil {
		return nil, err
	}
	if err := t.ask(ctx, x, parameters, &state); err != nil {
		return nil, err
	}
	for {
		if parameters.Pending {
			if err := t.enricher.Adopt(ctx, *x.Job.CollectionID, x.Job.ID); err != nil {
				return nil, err
			}
		}
		due, err := t.enricher.Due(ctx, x.Job.ID)
		if err != nil {
			return nil, err
		}
		if state.Total = state.Result.Pages + due; due == 0 {
			state.Result.Left = max(0, state.Wanted-state.Result.Pages)
		}
		if err := state.save(ctx, x); err != nil {
			return nil, err
		}
		if due == 0 {
			return state.Result, nil
		}
		some, err := t.enricher.Batch(ctx, x.Job.ID, *x.Job.LeaseOwner, func(ctx context.Context, q *db.Queries, out enrich.Outcome) error {
			state.Result.add(out)
			return state.saveIn(ctx, x, q)
		})
		if err == nil && !some {
			err = pause.For(ctx, enrichPause)
		}
		if err != nil {
			return nil, err
		}
	}
}

// ask marks the pages that the job is to fetch, batch by batch.
func (t *enrichTask) ask(ctx context.Context, x *jobs.Execution, p EnrichParameters, state *enrichState) error {
	for !state.Asked {
		asked, after, more, err := t.enricher.Want(ctx, enrich.Wanted{
			Collection: *x.Job.CollectionID, Items: p.ItemIDs, Refresh: p.Refresh, Job: x.Job.ID, By: x.Job.CreatedBy, After: state.After,
		})
		if err != nil {
			return err
		}
		state.Wanted, state.After, state.Asked = state.Wanted+asked, after, !more
		if err := state.save(ctx, x); err != nil {
			return err
		}
	}
	return nil
}

func (s *enrichState) save(ctx context.Context, x *jobs.Execution) error {
	s.Total = max(s.Total, s.Result.Pages)
	return x.Save(ctx, s.Result.Pages, s.Total, s)
}

// saveIn counts a page in the transaction that stores it: an attempt that ends at any moment leaves a result that adds up.
func (s *enrichState) saveIn(ctx context.Context, x *jobs.Execution, q *db.Queries) error {
	s.Total = max(s.Total, s.Result.Pages)
	return x.SaveIn(ctx, q, s.Result.Pages, s.Total, s)
}

func (r *enrichResult) add(out enrich.Outcome) {
	switch {
	case out.Code != "":
		r.Failed++
		if out.Again {
			r.Postponed++
		}
		if len(r.Failures) < maxFailures {
			r.Failures = append(r.Failures, enrichFailure{out.ItemID, out.Code, out.Message})
		}
	case out.Changed:
		r.Changed++
	default:
		r.Unchanged++
	}
	r.Pages++
	if out.Titled {
		r.Titled++
	}
}
