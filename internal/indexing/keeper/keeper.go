// Package keeper notices that the search index is missing, new or emptied, and fills it again from PostgreSQL while events go on. It also ends a rebuild
// that was left behind. Every replica of the indexer has a keeper; the one that holds an advisory lock looks and works.
package keeper

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/indexing/rebuild"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// lockKey is the advisory lock of the keeper at work: "refill" in ASCII.
const lockKey = 0x726566696c6c

const (
	pageSize   = 2000 // a few bulk requests: the next one is made ready while one is on its way
	samples    = 10   // places that a sample is taken from, of up to 20 items each
	logStride  = 50_000
	roundLimit = time.Minute
)

// Config sets the pace; zero values mean the defaults.
type Config struct {
	Alias    string
	Interval time.Duration // between two looks at which index is behind the alias; default 5 s
	Sampling time.Duration // between two looks whether its documents are there; default 1 min
}

// Deps are what a keeper uses. Registerer may be nil.
type Deps struct {
	Logger        *slog.Logger
	Pool          *pgxpool.Pool
	Elasticsearch elastictransport.Interface
	Registerer    prometheus.Registerer
}

// Keeper is one of several candidates.
type Keeper struct {
	cfg      Config
	deps     Deps
	items    *indexing.Indexer
	rebuilds *rebuild.Rebuilder
	sampled  time.Time
	complete prometheus.Gauge
	filled   prometheus.Counter
	renewals prometheus.Counter
}

// New makes a keeper; Run starts it.
func New(cfg Config, deps Deps) *Keeper {
	if cfg.Interval == 0 {
		cfg.Interval = 5 * time.Second
	}
	if cfg.Sampling == 0 {
		cfg.Sampling = time.Minute
	}
	k := &Keeper{
		cfg: cfg, deps: deps, items: indexing.New(deps.Pool, deps.Elasticsearch, cfg.Alias),
		rebuilds: rebuild.New(rebuild.Config{Alias: cfg.Alias}, rebuild.Deps{Logger: deps.Logger, Pool: deps.Pool, Elasticsearch: deps.Elasticsearch}),
		complete: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "atlas_search_index_complete", Help: "1 while the index behind the alias is known to be filled; 0 while it is missing or being filled. Of the replica that looks.",
		}),
		filled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "atlas_search_index_filled_items_total", Help: "Items that were sent to fill an index that was new, missing or emptied.",
		}),
		renewals: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "atlas_search_index_rebuilds_total", Help: "How often an index was made again because it was missing or emptied.",
		}),
	}
	if deps.Registerer != nil {
		deps.Registerer.MustRegister(k.complete, k.filled, k.renewals)
	}
	return k
}

// Run looks until ctx is done.
func (k *Keeper) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if err := k.Round(ctx); err != nil && ctx.Err() == nil {
			k.deps.Logger.WarnContext(ctx, "the search index could not be kept, will try again", "error", err)
		}
		timer.Reset(k.cfg.Interval)
	}
}

// Round looks once and mends what is wrong. It does nothing while another keeper is at work.
func (k *Keeper) Round(ctx context.Context) error {
	conn, err := k.deps.Pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Release()
	q := db.New(conn)
	// When this connection dies, another keeper may begin while this one goes on: both write the same.
	locked, err := q.TryJanitorLock(ctx, lockKey)
	if err != nil {
		return fmt.Errorf("take the keeper's lock: %w", err)
	}
	if !locked {
		return nil
	}
	defer func() {
		unlocking, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if _, err := q.ReleaseJanitorLock(unlocking, lockKey); err != nil {
			_ = conn.Conn().Close(unlocking) // the lock ends with the session
		}
	}()
	return errors.Join(k.tidy(ctx), k.keep(ctx, q))
}

// tidy ends a rebuild of the index that nobody goes on with.
func (k *Keeper) tidy(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, roundLimit)
	defer cancel()
	return k.rebuilds.Tidy(limited)
}

func (k *Keeper) keep(ctx context.Context, q *db.Queries) error {
	looking, cancel := context.WithTimeout(ctx, roundLimit)
	defer cancel()
	index, there, err := elastic.OwnBehindAlias(looking, k.deps.Elasticsearch, k.cfg.Alias)
	if err != nil {
		return err
	}
	if !there {
		k.complete.Set(0)
		if index, err = k.renew(looking, nil, "missing"); err != nil {
			return err
		}
	}
	state, err := q.SearchIndex(looking, k.cfg.Alias, index.UUID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		if state, err = k.see(looking, q, index); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("read what is known of the index: %w", err)
	case state.FilledAt != nil && time.Since(k.sampled) > k.cfg.Sampling:
		emptied, err := k.emptied(looking, q, true)
		if err != nil {
			return err
		}
		k.sampled = time.Now()
		if emptied {
			k.complete.Set(0)
			// Not in place: what was deleted by hand keeps a version for some time that the truth's may not exceed.
			if index, err = k.renew(looking, &index, "emptied"); err != nil {
				return err
			}
			if state, err = k.see(looking, q, index); err != nil {
				return err
			}
		}
	}
	if state.FilledAt != nil {
		k.complete.Set(1)
		return nil
	}
	k.complete.Set(0)
	return k.fill(ctx, q, index, state)
}

func (k *Keeper) renew(ctx context.Context, old *elastic.IndexID, why string) (elastic.IndexID, error) {
	if err := elastic.RenewIndex(ctx, k.deps.Elasticsearch, k.cfg.Alias, old); err != nil {
		return elastic.IndexID{}, fmt.Errorf("the index is %s: %w", why, err)
	}
	index, there, err := elastic.OwnBehindAlias(ctx, k.deps.Elasticsearch, k.cfg.Alias)
	if err != nil {
		return index, err
	}
	if !there {
		return index, errors.New("the index is gone again")
	}
	k.renewals.Inc()
	k.deps.Logger.WarnContext(ctx, "the search index was made again", "was", why, "index", index.Name)
	return index, nil
}

// see remembers an index that was not known.
func (k *Keeper) see(ctx context.Context, q *db.Queries, index elastic.IndexID) (db.SearchIndex, error) {
	incomplete, err := k.emptied(ctx, q, false)
	if err != nil {
		return db.SearchIndex{}, err
	}
	err = q.SeeSearchIndex(ctx, db.SeeSearchIndexParams{Alias: k.cfg.Alias, IndexUuid: index.UUID, Name: index.Name, Incomplete: incomplete})
	if err != nil {
		return db.SearchIndex{}, fmt.Errorf("remember the index: %w", err)
	}
	return q.SearchIndex(ctx, k.cfg.Alias, index.UUID)
}

// emptied tells whether most items of a sample have no document; recorded asks about those only that the index was given.
func (k *Keeper) emptied(ctx context.Context, q *db.Queries, recorded bool) (bool, error) {
	ids, err := q.ItemIDRange(ctx)
	if err != nil {
		return false, fmt.Errorf("take a sample of items: %w", err)
	}
	rows, err := q.SampleIndexedItems(ctx, places(ids.First, ids.Last), recorded)
	if err != nil {
		return false, fmt.Errorf("take a sample of items: %w", err)
	}
	sample := make([]string, len(rows))
	for i, id := range rows {
		sample[i] = id.String()
	}
	missing, err := elastic.Missing(ctx, k.deps.Elasticsearch, k.cfg.Alias, sample)
	if err != nil {
		return false, err
	}
	if n := len(missing); recorded && n > 0 {
		k.deps.Logger.WarnContext(ctx, "items are missing from the index: see `atlas check`", "sampled", len(sample), "missing", n)
	}
	return len(missing)*2 > len(sample), nil
}

// places are ids between the first and the last, spread over time as the ids are.
func places(first, last uuid.UUID) []uuid.UUID {
	from, to := binary.BigEndian.Uint64(first[:8]), binary.BigEndian.Uint64(last[:8])
	out := []uuid.UUID{first}
	for range samples - 1 {
		var id uuid.UUID
		at := from
		if to > from {
			at += rand.Uint64N(to - from) //nolint:gosec // a sample, guards nothing
		}
		binary.BigEndian.PutUint64(id[:8], at)
		out = append(out, id)
	}
	return out
}

// fill sends all items, from where the last keeper ended. Live events go on: a document never goes back to an older version.
func (k *Keeper) fill(ctx context.Context, q *db.Queries, index elastic.IndexID, state db.SearchIndex) error {
	k.deps.Logger.InfoContext(ctx, "filling the search index", "index", index.Name, "items", state.FilledItems)
	done, after, refused := state.FilledItems, state.FilledTo, 0
	for {
		rows, err := q.ItemIDs(ctx, after, pageSize)
		if err != nil {
			return fmt.Errorf("list items: %w", err)
		}
		if len(rows) == 0 {
			break
		}
		targets := make([]indexing.Target, len(rows))
		for i, row := range rows {
			targets[i] = indexing.Target{ItemID: row.ID, Version: row.Version}
		}
		rejections, err := k.items.Sync(ctx, targets)
		if err != nil {
			return fmt.Errorf("fill the index: %w", err)
		}
		refused += len(rejections)
		after, done = rows[len(rows)-1].ID, done+int64(len(rows))
		err = q.SaveSearchIndexProgress(ctx, db.SaveSearchIndexProgressParams{
			Alias: k.cfg.Alias, IndexUuid: index.UUID, FilledTo: after, Items: int64(len(rows)),
		})
		if err != nil {
			return fmt.Errorf("save the progress: %w", err)
		}
		k.filled.Add(float64(len(rows)))
		if done/logStride != (done-int64(len(rows)))/logStride {
			k.deps.Logger.InfoContext(ctx, "filling the search index", "index", index.Name, "items", done)
		}
	}
	now, there, err := elastic.OwnBehindAlias(ctx, k.deps.Elasticsearch, k.cfg.Alias)
	if err != nil {
		return err
	}
	if !there || now != index {
		return fmt.Errorf("the index %s was replaced while it was filled", index.Name)
	}
	if err := elastic.Refresh(ctx, k.deps.Elasticsearch, k.cfg.Alias); err != nil {
		return err
	}
	if err := q.SearchIndexFilled(ctx, k.cfg.Alias, index.UUID); err != nil {
		return fmt.Errorf("remember that the index is filled: %w", err)
	}
	k.complete.Set(1)
	k.deps.Logger.InfoContext(ctx, "the search index is filled", "index", index.Name, "items", done, "refused", refused)
	return nil
}
