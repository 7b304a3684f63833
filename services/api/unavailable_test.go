package api_test

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/search"
	"github.com/atlas-platform/atlas/services/api"
)

type brokenSearcher struct{ api.Searcher }

func (brokenSearcher) Search(context.Context, search.Query) (search.Page, error) {
	return search.Page{}, fmt.Errorf("read a row: %w", io.ErrUnexpectedEOF)
}

// TestABrokenConnectionIsNotTheCallersFault: a server that dies in the middle of an answer is away, not wrong.
func TestABrokenConnectionIsNotTheCallersFault(t *testing.T) {
	t.Parallel()
	b := setupWith(t, pgtest.New(t), brokenSearcher{})
	ada := b.account("ada")
	b.collection(ada, "c")
	b.call(ada, "GET", "/v1/search", nil).problem(503, "unavailable")
}
