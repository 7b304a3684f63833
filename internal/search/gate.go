package search

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// gateInterval is how long what was learned about the index counts.
const gateInterval = 2 * time.Second

// Gate tells whether the index behind an alias can be relied on: one that was lost is not, until it is filled again. It asks PostgreSQL every two
// seconds, and when an index answers that it has not heard of.
type Gate struct {
	queries *db.Queries
	alias   string
	now     func() time.Time

	mu    sync.Mutex
	until time.Time
	seen  []db.SearchIndicesRow
}

// NewGate makes a gate.
func NewGate(pool *pgxpool.Pool, alias string) *Gate {
	return &Gate{queries: db.New(pool), alias: alias, now: time.Now}
}

// Open tells whether the index may be asked. Who asks while another waits for PostgreSQL gets what was known before.
func (g *Gate) Open(ctx context.Context) bool {
	g.mu.Lock()
	now, known := g.now(), g.seen
	late := !now.Before(g.until)
	if late {
		g.until = now.Add(gateInterval)
	}
	g.mu.Unlock()
	if late {
		known, _ = g.look(ctx) // PostgreSQL may be away, which the search itself will say
	}
	return !slices.ContainsFunc(known, func(i db.SearchIndicesRow) bool { return i.Incomplete })
}

// look asks PostgreSQL. When that fails it returns what was known before.
func (g *Gate) look(ctx context.Context) ([]db.SearchIndicesRow, error) {
	seen, err := g.queries.SearchIndices(ctx, g.alias)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil {
		g.seen = seen
	}
	return g.seen, err
}

// knows tells whether an index of this name was seen to have the items.
func (g *Gate) knows(name string) bool {
	return g.has(func(i db.SearchIndicesRow) bool { return i.Name == name })
}

// filled tells whether the index has the items: whoever fills indices says so of it, or there are none. Without PostgreSQL it is believed to.
func (g *Gate) filled(ctx context.Context, uuid string) bool {
	same := func(i db.SearchIndicesRow) bool { return i.IndexUuid == uuid }
	if g.has(same) {
		return true
	}
	if _, err := g.look(ctx); err != nil || g.has(same) {
		return true
	}
	items, err := g.queries.AnyItems(ctx)
	return err != nil || !items
}

func (g *Gate) has(wanted func(db.SearchIndicesRow) bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.seen, func(i db.SearchIndicesRow) bool { return !i.Incomplete && wanted(i) })
}
