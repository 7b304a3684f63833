package api_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
)

// TestNoUpdateIsLost has clients count in an item's metadata, each with If-Match and again after a 412: no count is lost.
func TestNoUpdateIsLost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	path := "/v1/items/" + b.item(ada, b.collection(ada, "c"), "t")
	const clients, counts = 4, 10
	var refused atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for done := 0; done < counts; {
				item := b.call(ada, "GET", path, nil)
				count, _ := item.body["metadata"].(map[string]any)["count"].(float64)
				a := b.call(ada, "PATCH", path, object{"metadata": object{"count": count + 1}, "tags": []string{fmt.Sprint("n", count)}},
					header("If-Match", item.header.Get("ETag")))
				switch a.status {
				case 200:
					done++
				case 412:
					refused.Add(1)
				default:
					t.Errorf("%d: %s", a.status, a.raw)
					return
				}
			}
		})
	}
	wg.Wait()
	require.NotZero(t, refused.Load(), "they never met")
	item := b.call(ada, "GET", path, nil).is(200).body
	require.InDelta(t, clients*counts, item["metadata"].(map[string]any)["count"], 0)
	require.InDelta(t, clients*counts+1, item["version"], 0)
	require.Equal(t, []any{fmt.Sprint("n", clients*counts-1)}, item["tags"])
	for version := range clients*counts + 1 {
		revision := b.call(ada, "GET", fmt.Sprintf("%s/revisions/%d", path, version+1), nil).is(200).body
		if version > 0 {
			require.InDelta(t, version, revision["metadata"].(map[string]any)["count"], 0)
		}
	}
}

// TestBlindUpdatesAllHappen has writers without If-Match merge into one item: every one of them finds its turn.
func TestBlindUpdatesAllHappen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	path := "/v1/items/" + b.item(ada, b.collection(ada, "c"), "t")
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			require.Equal(t, 200, b.call(ada, "PATCH", path, object{"metadata": object{fmt.Sprint(i): true}}).status)
		})
	}
	wg.Wait()
	require.Len(t, b.call(ada, "GET", path, nil).is(200).body["metadata"], 24)
}

// TestOneKeyMakesOneItem sends the same request many times at once.
func TestOneKeyMakesOneItem(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	collection := b.collection(ada, "c")
	body := object{"collection_id": collection, "title": "t", "content": "c", "tags": []string{"x"}, "metadata": object{"b": 1, "a": 2}}
	answers := make([]answer, 100)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = b.call(ada, "POST", "/v1/items", body, header("Idempotency-Key", "one")) })
	}
	wg.Wait()
	first := 0
	for _, a := range answers {
		a.is(201)
		require.Equal(t, string(answers[0].raw), string(a.raw))
		require.Equal(t, answers[0].header.Get("Location"), a.header.Get("Location"))
		require.Equal(t, `"1"`, a.header.Get("ETag"))
		if a.header.Get("Idempotency-Replayed") == "" {
			first++
		}
	}
	require.Equal(t, 1, first)
	require.Equal(t, 1, b.count(event.ItemCreated))
	require.Len(t, b.call(ada, "GET", "/v1/items", nil).is(200).items(), 1)
	body["title"] = "another"
	b.call(ada, "POST", "/v1/items", body, header("Idempotency-Key", "one")).problem(422, "idempotency-key-reused")
}

// TestTagsThatVanish writes items with tags that are deleted and renamed all the time: each item has the tags that its answer names.
func TestTagsThatVanish(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	collection := b.collection(ada, "c")
	stop := make(chan struct{})
	var vandal, writers sync.WaitGroup
	vandal.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			// An unused tag goes; one that was used meanwhile is kept by its foreign key.
			_, _ = b.pool.Exec(t.Context(), "DELETE FROM tags t WHERE NOT EXISTS (SELECT 1 FROM item_tags it WHERE it.tag_id = t.id)")
			_, _ = b.pool.Exec(t.Context(), `UPDATE tags t SET name = name || $1 WHERE name IN ('a', 'b')
				AND NOT EXISTS (SELECT 1 FROM item_tags it WHERE it.tag_id = t.id)`, fmt.Sprint(i))
		}
	})
	for range 6 {
		writers.Go(func() {
			for range 10 {
				a := b.call(ada, "POST", "/v1/items", object{"collection_id": collection, "title": "t", "content": "", "tags": []string{"b", "a"}})
				require.Equal(t, 201, a.status, string(a.raw))
				path := "/v1/items/" + a.id()
				a = b.call(ada, "PATCH", path, object{"tags": []string{"c", "d"}})
				require.Equal(t, 200, a.status, string(a.raw))
				require.Equal(t, []any{"c", "d"}, b.call(ada, "GET", path, nil).body["tags"])
				require.Equal(t, 204, b.call(ada, "DELETE", path, nil).status)
				_, err := b.pool.Exec(t.Context(), "DELETE FROM item_tags WHERE item_id = $1", a.id())
				require.NoError(t, err)
			}
		})
	}
	writers.Wait()
	close(stop)
	vandal.Wait()
}

// TestTagThatIsRenamedMeanwhile creates an item while the only tag that it wants gets another name.
func TestTagThatIsRenamedMeanwhile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	collection := b.collection(ada, "c")
	b.item(ada, collection, "first", "old")
	path := "/v1/items/" + b.item(ada, collection, "third")
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(t.Context()) //nolint:errcheck // committed below
	_, err = tx.Exec(t.Context(), "UPDATE tags SET name = 'new' WHERE name = 'old'")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() { b.item(ada, collection, "second", "old") })
	wg.Go(func() { b.call(ada, "PATCH", path, object{"tags": []string{"old"}}).is(200) })
	b.waiting(2)
	require.NoError(t, tx.Commit(t.Context()))
	wg.Wait()
	tags := map[string]any{}
	for _, item := range b.call(ada, "GET", "/v1/items", nil).is(200).items() {
		tags[item["title"].(string)] = item["tags"]
	}
	require.Equal(t, map[string]any{"first": []any{"new"}, "second": []any{"old"}, "third": []any{"old"}}, tags)
}
