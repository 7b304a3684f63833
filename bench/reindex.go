package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/indexing/rebuild"
)

const (
	reindexShare  = 0.6
	reindexWrites = 200 // a second
	// reindexHeap is what a reindex may keep in memory more than before, whatever the number of items.
	reindexHeap = 64 << 20
)

// measureReindex compares a rebuild of the whole index, from its first phase to the last, with a bare loop that reads the same rows with pgx and sends them in
// _bulk requests to an index of the same definition. During both, items are changed and indexed at a steady pace.
func measureReindex(ctx context.Context, o options, p *platformBundle, r *report) error {
	if o.reindexed == 0 {
		return nil
	}
	if err := p.growTo(ctx, o.reindexed, 1000); err != nil {
		return err
	}
	ids, err := p.allItems(ctx)
	if err != nil {
		return err
	}
	items := float64(len(ids))
	var peak uint64
	atlas := contender{"reindex: whole index, live writes", func(ctx context.Context, _ time.Duration, _ int) (result, error) {
		var took time.Duration
		err := p.whileWriting(ctx, ids, func(ctx context.Context) (err error) {
			took, peak, err = p.rebuildOnce(ctx, peak)
			return err
		})
		return result{perSecond: items / took.Seconds()}, err
	}}
	bareAlias := p.alias + "-bare"
	bare := contender{"pgx → _bulk, live writes", func(ctx context.Context, _ time.Duration, workers int) (result, error) {
		if err := elastic.EnsureIndex(ctx, p.es, bareAlias, elastic.Params{}); err != nil {
			return result{}, err
		}
		defer dropAlias(context.WithoutCancel(ctx), p.es, bareAlias)
		batches := chunked(ids, indexerBatch)
		var took time.Duration
		err := p.whileWriting(ctx, ids, func(ctx context.Context) error {
			begun := time.Now()
			_, err := inParallel(ctx, workers, len(batches), func(ctx context.Context, i int) error {
				return bareIndex(ctx, p.own, p.es, bareAlias, batches[i])
			})
			took = time.Since(begun)
			return err
		})
		return result{perSecond: items / took.Seconds()}, err
	}}
	measured, err := compare(ctx, o, 2, atlas, bare)
	if err != nil {
		return err
	}
	r.ratio(atlas.name, bare.name, measured[0].perSecond, measured[1].perSecond, reindexShare)
	r.limit("reindex: heap, more than before", fmt.Sprintf("%.0f MiB", float64(peak)/(1<<20)), peak <= reindexHeap, "≤ 64 MiB")
	return nil
}

func chunked(ids []uuid.UUID, size int) (out [][]uuid.UUID) {
	for ; len(ids) > size; ids = ids[size:] {
		out = append(out, ids[:size])
	}
	return append(out, ids)
}

func (p *platformBundle) allItems(ctx context.Context) ([]uuid.UUID, error) {
	rows, err := p.own.Query(ctx, "SELECT id FROM items WHERE deleted_at IS NULL ORDER BY id")
	if err != nil {
		return nil, fmt.Errorf("list items: %w", err)
	}
	defer rows.Close()
	var ids []uuid.UUID
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("list items: %w", err)
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// whileWriting changes items and has them indexed, ten times a second a tenth of reindexWrites, as the indexer does.
func (p *platformBundle) whileWriting(ctx context.Context, ids []uuid.UUID, work func(ctx context.Context) error) error {
	live := indexing.New(p.own, p.es, p.alias)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var writing sync.WaitGroup
	var failed error
	writing.Go(func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			targets := make([]indexing.Target, reindexWrites/10)
			changed := make([]uuid.UUID, len(targets))
			for i := range targets {
				changed[i] = ids[(n*len(targets)+i)*7919%len(ids)]
				targets[i].ItemID = changed[i]
			}
			if _, err := p.own.Exec(ctx, "UPDATE items SET version = version + 1, updated_at = now() WHERE id = ANY ($1)", changed); err != nil {
				failed = err
				return
			}
			if _, err := live.Sync(ctx, targets); err != nil {
				failed = err
				return
			}
		}
	})
	err := work(ctx)
	stop()
	writing.Wait()
	if failed != nil && !errors.Is(failed, context.Canceled) {
		err = errors.Join(err, fmt.Errorf("write meanwhile: %w", failed))
	}
	return err
}

// rebuildOnce returns how long it took and the most that the heap had more than before.
func (p *platformBundle) rebuildOnce(ctx context.Context, peak uint64) (time.Duration, uint64, error) {
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	job := uuid.Must(uuid.NewV7())
	if _, err := p.own.Exec(ctx, "INSERT INTO jobs (id, type, state) VALUES ($1, 'reindex', 'RUNNING')", job); err != nil {
		return 0, peak, fmt.Errorf("make a job: %w", err)
	}
	index := rebuild.New(rebuild.Config{Alias: p.alias}, rebuild.Deps{Logger: slog.New(slog.DiscardHandler), Pool: p.own, Elasticsearch: p.es})
	begun := time.Now()
	_, err := index.Run(ctx, job, nil, func(ctx context.Context, _ string, done, total int64, checkpoint any) error {
		runtime.ReadMemStats(&now)
		if now.HeapInuse > before.HeapInuse {
			peak = max(peak, now.HeapInuse-before.HeapInuse)
		}
		raw, err := json.Marshal(checkpoint)
		if err != nil {
			return fmt.Errorf("encode the checkpoint: %w", err)
		}
		_, err = p.own.Exec(ctx, "UPDATE jobs SET progress_done = $2, progress_total = $3, checkpoint = $4 WHERE id = $1", job, done, total, raw)
		return err
	})
	return time.Since(begun), peak, err
}
