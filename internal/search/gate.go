package search

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// gateInterval is how long what was learned about the index counts.
const gateInterval = 2 * time.Second

// Gate tells whether the index behind an alias can be relied on: one that was lost is not, until it is filled again. It asks PostgreSQL every two
// seconds at most.
type Gate struct {
	queries *db.Queries
	alias   string
	now     func() time.Time

	mu    sync.Mutex
	until time.Time
	shut  bool
}

// NewGate makes a gate.
func NewGate(pool *pgxpool.Pool, alias string) *Gate {
	return &Gate{queries: db.New(pool), alias: alias, now: time.Now}
}

// Open tells whether the index may be asked. Who asks while another waits for PostgreSQL gets what was known before.
func (g *Gate) Open(ctx context.Context) bool {
	g.mu.Lock()
	now := g.now()
	if now.Before(g.until) {
		defer g.mu.Unlock()
		return !g.shut
	}
	g.until = now.Add(gateInterval)
	known := g.shut
	g.mu.Unlock()
	shut, err := g.queries.SearchIndexIncomplete(ctx, g.alias)
	if err != nil {
		return !known // PostgreSQL is away, which the search itself will say
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	return !shut
}
