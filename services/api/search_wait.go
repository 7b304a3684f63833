package api

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/search"
)

const (
	defaultSearchWait = 10 * time.Second
	// waitStep is how often they are asked who know whether a write can be found. All who wait are woken at the same moments, so that one question
	// serves them all.
	waitStep = 50 * time.Millisecond
)

// awaited is what is known about a write that somebody waits for.
type awaited struct {
	committed bool // the write, or a later one of the item, is in the database
	found     bool // and can be found
	degraded  bool // by the fallback
	refused   bool // the index will never have it
}

// in tells whether a page that was asked for after this was learned has the write.
func (a awaited) in(page search.Page) bool {
	if page.Degraded {
		return a.committed // PostgreSQL finds what it has
	}
	return a.found && !a.degraded
}

// await waits until the write can be found, for a bounded time. The caller has to be a member of the item's collection all the while.
func (s *server) await(ctx context.Context, user uuid.UUID, waitFor string) (awaited, error) {
	text, number, _ := strings.Cut(waitFor, ":")
	item, err := uuid.Parse(text)
	if err != nil {
		return awaited{}, fmt.Errorf("read wait_for: %w", err) // the specification's pattern lets none through
	}
	version, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return awaited{}, fmt.Errorf("read wait_for: %w", err)
	}
	end := time.NewTimer(s.searchWait)
	defer end.Stop()
	for {
		state, known, err := s.waits.ask(ctx, waitQuestion{user: user, item: item, version: version})
		switch {
		case err != nil:
			return state, err
		case !known:
			return state, notFound(noItem)
		case state.found, state.refused:
			return state, nil
		}
		now := time.Now()
		next := time.NewTimer(now.Truncate(waitStep).Add(waitStep).Sub(now))
		select {
		case <-next.C:
		case <-end.C:
			next.Stop()
			return state, nil
		case <-ctx.Done():
			next.Stop()
			return state, ctx.Err()
		}
	}
}

// look answers for many: one statement, and one question to the index.
func (s *server) look(ctx context.Context, questions []waitQuestion) (map[int]awaited, error) {
	users, items := make([]uuid.UUID, len(questions)), make([]uuid.UUID, len(questions))
	for i, q := range questions {
		users[i], items[i] = q.user, q.item
	}
	rows, err := s.queries.ReadFreshness(ctx, users, items)
	if err != nil {
		return nil, fmt.Errorf("read the versions that are waited for: %w", err)
	}
	states := make(map[int]awaited, len(rows))
	refused := make(map[int]bool)
	writes, places := make([]search.Write, 0, len(rows)), make([]int, 0, len(rows))
	for _, row := range rows {
		place := int(row.Place) - 1
		q := questions[place]
		states[place] = awaited{committed: row.Version >= q.version}
		if row.Version >= q.version {
			refused[place] = row.FailedVersion >= row.Version && row.IndexedVersion < q.version
			places = append(places, place)
			writes = append(writes, search.Write{
				ItemID: q.item, Version: q.version, Committed: row.Version, Indexed: row.IndexedVersion, Deleted: row.Deleted,
			})
		}
	}
	if len(writes) == 0 {
		return states, nil
	}
	fresh, err := s.searcher.Fresh(ctx, writes)
	if err != nil {
		return nil, searchProblem(err)
	}
	for i, place := range places {
		states[place] = awaited{committed: true, found: fresh.Found[i], degraded: fresh.Degraded, refused: refused[place]}
	}
	return states, nil
}

type waitQuestion struct {
	user, item uuid.UUID
	version    int64
}
