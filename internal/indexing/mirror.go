package indexing

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// mirrorPatience is how long an index that is being built may hold up the one that is searched, before it is given up.
const mirrorPatience = 20 * time.Second

// errMoved means that what is to be written is not what it was: read again.
var errMoved = errors.New("what is to be written has changed")

// mirror writes to the index that is being built what is written to the alias. What it can't write is not left out: either the write fails as a
// whole, or the index is given up in PostgreSQL, where the decision to search it is made as well, so that only one of the two can be.
type mirror struct {
	queries *db.Queries
	es      elastictransport.Interface
	alias   string
	busy    func()

	mu      sync.Mutex
	failing time.Time // since when nothing could be written
}

func newMirror(queries *db.Queries, es elastictransport.Interface, alias string) *mirror {
	return &mirror{queries: queries, es: es, alias: alias, busy: func() {}}
}

// target is what is to be written besides the alias; empty: nothing.
func (m *mirror) target(ctx context.Context) (string, error) {
	target, err := m.queries.SearchTarget(ctx, m.alias)
	if err != nil {
		return "", fmt.Errorf("look for an index that is being built: %w", err)
	}
	return target, nil
}

func (m *mirror) write(ctx context.Context, target string, actions []elastic.BulkAction) error {
	bulk := elastic.NewBulkWriter(m.es, target, 0)
	bulk.OnBusy(m.busy)
	_, err := writeAll(ctx, bulk, actions) // what the new index refuses is seen by who builds it
	return err
}

// settle is given what became of a write to the target, where the one to the alias succeeded.
func (m *mirror) settle(ctx context.Context, target string, err error) error {
	tooLong := m.note(err)
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case !tooLong && !errors.Is(err, elastic.ErrNoAlias):
		return fmt.Errorf("write to the index that is being built: %w", err)
	}
	if _, lost := m.queries.LoseSearchTarget(ctx, m.alias, target); lost != nil {
		return fmt.Errorf("give up the index that is being built (%w): %w", err, lost)
	}
	return fmt.Errorf("%w: %w", errMoved, err)
}

// note keeps account of failures and tells whether they have lasted too long.
func (m *mirror) note(err error) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err == nil:
		m.failing = time.Time{}
	case m.failing.IsZero():
		m.failing = time.Now()
	}
	return err != nil && time.Since(m.failing) > mirrorPatience
}
