package rebuild

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/pause"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// The phases, in order.
const (
	phaseCreate   = "create"   // the new index
	phaseBackfill = "backfill" // all items, in the order of their ids
	phaseCatchUp  = "catch up" // what changed meanwhile
	phaseVerify   = "verify"   // counts and samples
	phaseSwap     = "swap"     // the alias
	phaseFinal    = "final"    // what a writer that knows the alias only wrote to the old index
	phaseRetire   = "retire"   // the old index
	phaseDone     = "done"
)

// words say to people what a phase does.
var words = map[string]string{
	phaseCreate:   "creating the new index",
	phaseBackfill: "copying all items into the new index",
	phaseCatchUp:  "bringing what changed meanwhile into the new index",
	phaseVerify:   "comparing the new index with the items",
	phaseSwap:     "leading search to the new index",
	phaseFinal:    "looking for late changes",
	phaseRetire:   "search is on the new index; waiting until the searches that were begun in the old one are over, to remove it",
}

const (
	pageSize = 4000
	// writers is how many parts of a page are on their way at the same time.
	writers = 2
	// maxReasons bounds how many refused items are named, and maxKnown of how many it is known that they are counted: what changed a moment ago is sent
	// again and again.
	maxReasons = 5
	maxKnown   = 1000
	// longestWait is between two looks whether a server is back.
	longestWait = 15 * time.Second
)

// state is the checkpoint.
type state struct {
	Index    string             `json:"index"`
	Phase    string             `json:"phase"`
	Started  time.Time          `json:"started"`
	After    uuid.UUID          `json:"after"` // in phaseBackfill
	Last     uuid.UUID          `json:"last"`  // what comes later is written to both indices; the backfill does not run after it
	Done     int64              `json:"done"`
	Total    int64              `json:"total"`
	Since    time.Time          `json:"since"` // what changed from then on may be missing
	Passes   int                `json:"passes"`
	Again    int                `json:"again,omitempty"` // backfills that were repeated
	Refused  int64              `json:"refused"`
	Known    []uuid.UUID        `json:"known,omitempty"` // the first of those that were refused
	Reasons  []string           `json:"reasons,omitempty"`
	OldIndex string             `json:"old_index"`
	Seconds  map[string]float64 `json:"seconds"` // by phase
}

// Result is what a rebuild did.
type Result struct {
	// Items are those of the backfill; Changes were sent again by the passes over what changed.
	Items int64 `json:"items"`
	// CatchUpPasses is how often what had changed was looked for.
	CatchUpPasses int    `json:"catch_up_passes"`
	Index         string `json:"index"`
	OldIndex      string `json:"old_index"`
	// Refused are items that neither the old nor the new index takes. More than 1,000 may be counted more than once.
	Refused int64              `json:"refused"`
	Seconds map[string]float64 `json:"seconds"`
}

// execution is one attempt at a rebuild.
type execution struct {
	*Rebuilder
	job     uuid.UUID
	plan    elastic.Blueprint
	row     db.SearchRebuildRow
	state   state
	builder *indexing.Indexer // writes to the new index alone
	save    Save
}

// run goes from phase to phase.
func (x *execution) run(ctx context.Context) (*Result, error) {
	steps := map[string]func(ctx context.Context) (next string, err error){
		phaseCreate: x.create, phaseBackfill: x.backfill, phaseCatchUp: x.catchUp, phaseVerify: x.verify,
		phaseSwap: x.swap, phaseFinal: x.final, phaseRetire: x.retire,
	}
	for x.state.Phase != phaseDone {
		phase := x.state.Phase
		x.deps.Metrics.enter(phase)
		x.deps.Logger.InfoContext(ctx, "rebuilding the search index", "phase", phase, "index", x.row.IndexName, "items", x.state.Done)
		if x.cfg.Enter != nil {
			x.cfg.Enter(ctx, phase)
		}
		begun := time.Now()
		next, err := x.patiently(ctx, steps[phase])
		x.took(phase, time.Since(begun))
		if err != nil {
			x.deps.Metrics.enter("")
			if phase == phaseCreate {
				x.leave(ctx)
			}
			return nil, err
		}
		x.state.Phase = next
		if err := x.checkpoint(ctx); err != nil {
			return nil, err
		}
	}
	x.deps.Metrics.enter("")
	return &Result{
		Items: x.state.Done, CatchUpPasses: x.state.Passes, Index: x.row.IndexName, OldIndex: x.state.OldIndex,
		Refused: x.state.Refused, Seconds: x.state.Seconds,
	}, nil
}

// patiently takes a step again while a server is away.
func (x *execution) patiently(ctx context.Context, step func(ctx context.Context) (string, error)) (string, error) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = x.cfg.Poll, longestWait
	var since time.Time
	for {
		done := x.state.Done
		next, err := step(ctx)
		var unsaved *saveError
		if err == nil || ctx.Err() != nil || errors.Is(err, errLost) || Hopeless(err) || errors.As(err, &unsaved) {
			return next, err
		}
		if since.IsZero() || x.state.Done > done {
			since = time.Now()
			wait.Reset()
		}
		if time.Since(since) > x.cfg.Patience {
			return "", err
		}
		x.deps.Logger.WarnContext(ctx, "rebuilding the search index has to wait", "phase", x.state.Phase, "error", err)
		if err := pause.For(ctx, wait.NextBackOff()); err != nil {
			return "", err
		}
	}
}

func (x *execution) took(phase string, d time.Duration) {
	if x.state.Seconds == nil {
		x.state.Seconds = map[string]float64{}
	}
	x.state.Seconds[phase] += float64(d.Milliseconds()) / 1000
	x.deps.Metrics.seconds.WithLabelValues(phase).Add(d.Seconds())
}

// checkpoint also tells that the job is another worker's by now.
func (x *execution) checkpoint(ctx context.Context) error {
	raw, err := json.Marshal(x.state)
	if err != nil {
		return fmt.Errorf("encode the checkpoint: %w", err)
	}
	if err := x.save(ctx, words[x.state.Phase], x.state.Done, x.state.Total, json.RawMessage(raw)); err != nil {
		return &saveError{err}
	}
	return nil
}

// saveError says that the job may be somebody else's.
type saveError struct{ error }

func (e *saveError) Unwrap() error { return e.error }

// create makes the new index and has it written by everybody.
func (x *execution) create(ctx context.Context) (string, error) {
	made, err := elastic.BuildIndex(ctx, x.deps.Elasticsearch, x.row.IndexName)
	if err == nil && !made { // the name was taken in this very second: the next one has another
		if err := x.queries.EndSearchRebuild(ctx, x.cfg.Alias, x.row.IndexName); err != nil {
			return "", fmt.Errorf("give up the name %s: %w", x.row.IndexName, err)
		}
		now := time.Now()
		return "", errors.Join(errLost, pause.For(ctx, now.Truncate(time.Second).Add(time.Second).Sub(now)))
	}
	if err != nil {
		return "", err
	}
	// Before the target appears: whoever doesn't see it has read its items before.
	began, err := x.queries.ChangesBegan(ctx, margin.Seconds())
	if err != nil {
		return "", fmt.Errorf("look at the time: %w", err)
	}
	// From building too: a worker that lost the job may have been here.
	if moved, err := x.move(ctx, &x.row, building, "", creating, building); err != nil || !moved {
		return "", errors.Join(errLost, err)
	}
	count, err := x.queries.CountItems(ctx)
	if err != nil {
		return "", fmt.Errorf("count items: %w", err)
	}
	ids, err := x.queries.ItemIDRange(ctx)
	if err != nil {
		return "", fmt.Errorf("look for the last item: %w", err)
	}
	x.state.Since, x.state.Total, x.state.Last = began.Since, count.Live, ids.Last
	return phaseBackfill, nil
}

// backfill sends all items in the order of their ids, as they are when they are read. What is newer in the index stays.
func (x *execution) backfill(ctx context.Context) (string, error) {
	for {
		if err := x.stillBuilding(ctx); err != nil {
			return "", err
		}
		rows, err := x.queries.ItemIDs(ctx, x.state.After, int32(x.cfg.Page)) //nolint:gosec // small
		if err != nil {
			return "", fmt.Errorf("list items: %w", err)
		}
		for len(rows) > 0 && bytes.Compare(rows[len(rows)-1].ID[:], x.state.Last[:]) > 0 {
			rows = rows[:len(rows)-1]
		}
		if len(rows) == 0 {
			return phaseCatchUp, nil
		}
		targets := make([]indexing.Target, len(rows))
		for i, row := range rows {
			targets[i] = indexing.Target{ItemID: row.ID, Version: row.Version}
		}
		if err := x.send(ctx, targets); err != nil {
			return "", err
		}
		x.state.After = rows[len(rows)-1].ID
		x.state.Done += int64(len(rows))
		x.state.Total = max(x.state.Total, x.state.Done)
		x.deps.Metrics.items.Add(float64(len(rows)))
		if err := x.checkpoint(ctx); err != nil {
			return "", err
		}
	}
}

// send brings items into the new index, in parts at the same time.
func (x *execution) send(ctx context.Context, targets []indexing.Target) error {
	group, sending := errgroup.WithContext(ctx)
	refusals := make([][]indexing.Rejection, writers)
	size := (len(targets) + writers - 1) / writers
	for i := range writers {
		part := targets[min(i*size, len(targets)):min((i+1)*size, len(targets))]
		group.Go(func() (err error) {
			refusals[i], err = x.builder.Sync(sending, part)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return lostIfGone(err)
	}
	for _, refused := range refusals {
		if err := x.judge(ctx, refused); err != nil {
			return err
		}
	}
	return nil
}

// judge fails when search would lose items: the new index refuses what the old one has.
func (x *execution) judge(ctx context.Context, refused []indexing.Rejection) error {
	if len(refused) == 0 {
		return nil
	}
	ids, reasons := make([]uuid.UUID, len(refused)), make(map[uuid.UUID]string, len(refused))
	for i, r := range refused {
		ids[i], reasons[r.ItemID] = r.ItemID, r.Reason
	}
	found, err := x.queries.ItemsThatSearchHas(ctx, ids)
	if err != nil {
		return fmt.Errorf("look for refused items: %w", err)
	}
	if len(found) > 0 {
		return fmt.Errorf("%w, such as %s: %s", ErrRefused, found[0], reasons[found[0]])
	}
	for _, r := range refused {
		if slices.Contains(x.state.Known, r.ItemID) {
			continue
		}
		x.state.Refused++
		if len(x.state.Known) < maxKnown {
			x.state.Known = append(x.state.Known, r.ItemID)
		}
		if len(x.state.Reasons) < maxReasons {
			x.state.Reasons = append(x.state.Reasons, r.ItemID.String()+": "+r.Reason)
		}
	}
	return nil
}

// stillBuilding fails when the rebuild was given up or is somebody else's.
func (x *execution) stillBuilding(ctx context.Context) error {
	row, err := x.queries.SearchRebuild(ctx, x.cfg.Alias)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return errLost
	case err != nil:
		return fmt.Errorf("look at the rebuild: %w", err)
	case row.IndexName != x.row.IndexName || row.State != building:
		return errLost
	}
	return nil
}

// lostIfGone turns the absence of the new index into its loss.
func lostIfGone(err error) error {
	if errors.Is(err, elastic.ErrNoAlias) {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return err
}
