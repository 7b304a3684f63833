// Package rebuild makes the search index anew beside the one that is searched, and swaps the two when the new one has everything. Nobody who searches or
// writes notices: while it is built, whoever writes items writes to both (package indexing), and the alias moves in one step.
//
// Where a rebuild is stands in PostgreSQL, in search_rebuilds; the job's checkpoint has only how far its phase is. So a rebuild goes on with another
// worker from wherever the last one was killed, and one that nobody goes on with is undone, or finished where search is on the new index already.
package rebuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/pause"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// The states of a row of search_rebuilds.
const (
	creating = "creating"
	building = "building"
	swapping = "swapping"
	swapped  = "swapped"
	lost     = "lost"
)

// ErrBusy means that the job has to wait for another one.
var ErrBusy = errors.New("another job is rebuilding the search index")

// Errors that another attempt does not mend.
var (
	ErrRefused   = errors.New("the new index refuses items that search has")
	ErrDifferent = errors.New("the new index is not as the items are")
)

// Hopeless tells whether no further attempt would mend the error.
func Hopeless(err error) bool {
	return errors.Is(err, ErrRefused) || errors.Is(err, ErrDifferent)
}

// errLost means that the new index is gone or was given up: it is made again.
var errLost = errors.New("the index that was being built is lost")

// maxRestarts is how often one attempt begins anew.
const maxRestarts = 3

// Config sets the pace; zero values mean the defaults.
type Config struct {
	Alias string
	// Page is how many items are sent between two checkpoints; default 4000.
	Page int
	// Poll is the pause between two looks at something that is waited for; default 500 ms.
	Poll time.Duration
	// MinKeep and MaxKeep bound how long the old index stays after the swap: until nobody reads it any more; defaults 2 s and 11 min, which is longer
	// than the pages of one search are of one moment.
	MinKeep, MaxKeep time.Duration
	// Patience is how long servers that are away are waited for; default 15 min. After that the attempt at the job fails.
	Patience time.Duration
	// Enter is told the phases, for tests; it may be nil.
	Enter func(ctx context.Context, phase string)
}

// Deps are what a rebuild uses. Metrics may be nil.
type Deps struct {
	Logger        *slog.Logger
	Pool          *pgxpool.Pool
	Elasticsearch elastictransport.Interface
	Metrics       *Metrics
}

// Rebuilder rebuilds the index behind one alias.
type Rebuilder struct {
	cfg     Config
	deps    Deps
	queries *db.Queries
}

// New makes a rebuilder.
func New(cfg Config, deps Deps) *Rebuilder {
	if cfg.Page == 0 {
		cfg.Page = pageSize
	}
	if cfg.Poll == 0 {
		cfg.Poll = 500 * time.Millisecond
	}
	if cfg.MinKeep == 0 {
		cfg.MinKeep = 2 * time.Second
	}
	if cfg.MaxKeep == 0 {
		cfg.MaxKeep = 11 * time.Minute
	}
	if cfg.Patience == 0 {
		cfg.Patience = 15 * time.Minute
	}
	if deps.Metrics == nil {
		deps.Metrics = NewMetrics(nil)
	}
	return &Rebuilder{cfg: cfg, deps: deps, queries: db.New(deps.Pool)}
}

// Save stores how far a rebuild is; it fails when the job is somebody else's by now.
type Save func(ctx context.Context, phase string, done, total int64, checkpoint any) error

// Run rebuilds the index for a job, from the job's checkpoint if there is one.
func (r *Rebuilder) Run(ctx context.Context, job uuid.UUID, checkpoint json.RawMessage, save Save) (*Result, error) {
	for restarts := 0; ; restarts++ {
		x, err := r.begin(ctx, job, checkpoint, save)
		if err != nil {
			return nil, err
		}
		result, err := x.run(ctx)
		switch {
		case err == nil:
			r.deps.Metrics.rebuilds.WithLabelValues("succeeded").Inc()
			return result, nil
		case Hopeless(err):
			r.deps.Metrics.rebuilds.WithLabelValues("refused").Inc()
			return nil, errors.Join(err, r.giveUp(ctx, x.row))
		case !errors.Is(err, errLost) || restarts == maxRestarts:
			return nil, err
		}
		r.deps.Metrics.rebuilds.WithLabelValues("restarted").Inc()
		r.deps.Logger.WarnContext(ctx, "the search index is rebuilt from the beginning", "index", x.row.IndexName, "error", err)
		if err := r.giveUp(ctx, x.row); err != nil {
			return nil, err
		}
		if checkpoint, err = json.Marshal(x.state); err != nil { // of use where it was another worker that went on
			return nil, fmt.Errorf("encode the checkpoint: %w", err)
		}
	}
}

// begin takes up the job's rebuild or starts one. What a job that has ended left behind is cleared away first.
func (r *Rebuilder) begin(ctx context.Context, job uuid.UUID, checkpoint json.RawMessage, save Save) (*execution, error) {
	plan, err := elastic.ReadBlueprint(ctx, r.deps.Elasticsearch, r.cfg.Alias)
	if err != nil {
		return nil, err
	}
	x := &execution{Rebuilder: r, job: job, plan: plan, save: save}
	for {
		row, err := r.queries.SearchRebuild(ctx, r.cfg.Alias)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			if done, err := x.doneBefore(ctx, checkpoint); err != nil || done {
				return x, err
			}
			if err := r.sweep(ctx); err != nil {
				return nil, err
			}
			name := plan.IndexName(r.cfg.Alias, time.Now())
			if _, err := r.queries.BeginSearchRebuild(ctx, db.BeginSearchRebuildParams{
				Alias: r.cfg.Alias, JobID: job, IndexName: name, Target: elastic.BuildTarget(name),
			}); err != nil {
				return nil, fmt.Errorf("begin a rebuild: %w", err)
			}
			continue // and see whose it is
		case err != nil:
			return nil, fmt.Errorf("look for a rebuild: %w", err)
		case row.JobID == job && row.State != lost:
			x.resume(row, checkpoint)
			return x, nil
		case row.JobID != job && row.Live:
			return nil, fmt.Errorf("%w: job %s", ErrBusy, row.JobID)
		}
		ended, err := r.clear(ctx, row)
		if err != nil {
			return nil, err
		}
		if !ended {
			if err := pause.For(ctx, r.cfg.Poll); err != nil {
				return nil, err
			}
		}
	}
}

// resume reads the checkpoint if it is of this index.
func (x *execution) resume(row db.SearchRebuildRow, checkpoint json.RawMessage) {
	x.row = row
	if json.Unmarshal(checkpoint, &x.state) != nil || x.state.Index != row.IndexName { // none, or of an index that is gone
		x.state = state{Index: row.IndexName, Started: time.Now().UTC(), Phase: phaseCreate, Since: row.CreatedAt.Add(-margin)}
	}
	x.builder = indexing.NewBuilder(x.deps.Pool, x.deps.Elasticsearch, row.Target)
	switch row.State {
	case creating:
		x.state.Phase = phaseCreate
	case swapping:
		x.state.Phase = phaseSwap
	case swapped:
		if x.state.OldIndex = row.OldIndex; x.state.Phase != phaseRetire {
			x.state.Phase = phaseFinal
		}
	}
}

// doneBefore tells whether the last attempt was killed between the end of its work and the end of the job.
func (x *execution) doneBefore(ctx context.Context, checkpoint json.RawMessage) (bool, error) {
	var s state
	if json.Unmarshal(checkpoint, &s) != nil || s.Phase != phaseRetire && s.Phase != phaseDone {
		return false, nil //nolint:nilerr // no checkpoint, or none of this version
	}
	now, there, err := elastic.OwnBehindAlias(ctx, x.deps.Elasticsearch, x.cfg.Alias)
	if err != nil || !there || now.Name != s.Index {
		return false, err
	}
	s.Phase = phaseDone
	x.state, x.row.IndexName = s, s.Index
	return true, nil
}

// move takes the row from one of some states to the next, and tells whether it was in one of them.
func (r *Rebuilder) move(ctx context.Context, row *db.SearchRebuildRow, to, oldIndex string, from ...string) (bool, error) {
	moved, err := r.queries.MoveSearchRebuild(ctx, db.MoveSearchRebuildParams{
		State: to, OldIndex: oldIndex, Alias: r.cfg.Alias, IndexName: row.IndexName, FromStates: from,
	})
	if err != nil {
		return false, fmt.Errorf("save the state of the rebuild: %w", err)
	}
	if moved == 1 {
		row.State, row.OldIndex = to, oldIndex
	}
	return moved == 1, nil
}
