package enrich

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/extract"
	"github.com/atlas-platform/atlas/internal/fetch"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// hostile serves pages that take many times their size to read.
type hostile struct{ body []byte }

func (h hostile) Fetch(context.Context, fetch.Request) (*fetch.Page, error) {
	return &fetch.Page{URL: "https://example.com/", ContentType: "text/html; charset=windows-1252", Body: h.body}, nil
}

// TestOnePageIsReadAtATime, however many jobs and hosts there are: what they take of the memory does not add up.
func TestOnePageIsReadAtATime(t *testing.T) {
	t.Parallel()
	e := New(slog.New(slog.DiscardHandler), nil, hostile{[]byte(strings.Repeat("\x80 ", 32<<10))})
	var running, most atomic.Int64
	e.extract = func(body []byte, contentType, at string) extract.Result {
		now := running.Add(1)
		for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
		}
		defer running.Add(-1)
		return extract.Page(body, contentType, at)
	}
	var all sync.WaitGroup
	for range 3 * atOnce {
		all.Go(func() {
			result, err := e.read(t.Context(), &db.ClaimExtractsRow{})
			require.NoError(t, err)               //nolint:testifylint // the others go on
			require.NotEmpty(t, result.says.Text) //nolint:testifylint // the others go on
		})
	}
	all.Wait()
	require.EqualValues(t, 1, most.Load())

	e.reading <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := e.read(ctx, &db.ClaimExtractsRow{})
	require.ErrorIs(t, err, context.Canceled, "nobody waits for longer than the work goes on")
}
