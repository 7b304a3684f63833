package search_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/search"
)

// searcherFunc answers everything as it answers a search.
type searcherFunc func(ctx context.Context, q search.Query) (search.Page, error)

func (f searcherFunc) Search(ctx context.Context, q search.Query) (search.Page, error) {
	return f(ctx, q)
}

func (f searcherFunc) Suggest(ctx context.Context, _ search.Prefix) (search.Suggestions, error) {
	_, err := f(ctx, search.Query{})
	return search.Suggestions{}, err
}

func (f searcherFunc) Fresh(ctx context.Context, writes []search.Write) (search.Freshness, error) {
	_, err := f(ctx, search.Query{})
	return search.Freshness{Found: make([]bool, len(writes))}, err
}

func TestFallbackAnswersDegradedWhileElasticsearchIsAway(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	pool := pgtest.New(t)
	seed := indexingtest.NewSeed(t, pool)
	c := seed.Collection(t)
	for i := range 3 {
		seed.Item(t, c, fmt.Sprintf("needle %d", i), "")
	}
	es, err := elastic.NewClient(elastic.Config{URLs: []string{"http://127.0.0.1:1"}}) // nobody listens there
	require.NoError(t, err)
	searcher := search.NewFallback(search.NewElasticsearch(es, "any"), search.NewPostgres(pool))
	q := search.Query{Match: parse(t, "needle"), CollectionIDs: []uuid.UUID{c}, Limit: 2}
	page, err := searcher.Search(ctx, q)
	require.NoError(t, err)
	require.True(t, page.Degraded)
	require.Len(t, page.Hits, 2)
	q.Cursor = page.NextCursor
	page, err = searcher.Search(ctx, q)
	require.NoError(t, err)
	require.True(t, page.Degraded)
	require.Len(t, page.Hits, 1)
}

func TestFallbackLeavesAFailedPrimaryAlone(t *testing.T) {
	t.Parallel()
	var calls int
	failure := fmt.Errorf("%w: away", search.ErrUnavailable)
	primary := searcherFunc(func(context.Context, search.Query) (search.Page, error) {
		calls++
		return search.Page{}, failure
	})
	secondary := searcherFunc(func(context.Context, search.Query) (search.Page, error) { return search.Page{}, nil })
	searcher := search.NewFallback(primary, secondary)
	for range 3 {
		page, err := searcher.Search(context.Background(), search.Query{})
		require.NoError(t, err)
		require.True(t, page.Degraded)
		suggestions, err := searcher.Suggest(context.Background(), search.Prefix{})
		require.NoError(t, err)
		require.True(t, suggestions.Degraded)
		fresh, err := searcher.Fresh(context.Background(), nil)
		require.NoError(t, err)
		require.True(t, fresh.Degraded)
	}
	require.Equal(t, 1, calls, "one account for all questions")
}

func TestFallbackPassesOnWhatIsTheCallersFault(t *testing.T) {
	t.Parallel()
	for _, want := range []error{search.ErrCursor, search.ErrQuery, errors.New("a bug")} {
		primary := searcherFunc(func(context.Context, search.Query) (search.Page, error) { return search.Page{}, want })
		searcher := search.NewFallback(primary, nil)
		for range 2 {
			_, err := searcher.Search(context.Background(), search.Query{})
			require.ErrorIs(t, err, want)
		}
	}
}

func TestFallbackAnswersWhereThereIsTooMuchToLeaveOut(t *testing.T) {
	t.Parallel()
	primary := searcherFunc(func(context.Context, search.Query) (search.Page, error) { return search.Page{Total: 1}, nil })
	secondary := searcherFunc(func(context.Context, search.Query) (search.Page, error) { return search.Page{Total: 2}, nil })
	searcher := search.NewFallback(primary, secondary)
	for left, want := range map[int]search.Page{search.MaxNotItems: {Total: 1}, search.MaxNotItems + 1: {Total: 2, Degraded: true}} {
		page, err := searcher.Search(t.Context(), search.Query{NotItems: make([]uuid.UUID, left)})
		require.NoError(t, err)
		require.Equal(t, want, page)
	}
}

func TestFallbackUsesAPrimaryThatIsWell(t *testing.T) {
	t.Parallel()
	primary := searcherFunc(func(context.Context, search.Query) (search.Page, error) { return search.Page{Total: 7}, nil })
	page, err := search.NewFallback(primary, nil).Search(context.Background(), search.Query{})
	require.NoError(t, err)
	require.False(t, page.Degraded)
	require.EqualValues(t, 7, page.Total)
}
