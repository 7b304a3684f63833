package api_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
)

func withSource(collection, url string) object {
	return object{"collection_id": collection, "title": "t", "content": "", "source_url": url}
}

func TestSourceIsCanonicalAndUnique(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	collection, other := b.collection(ada, "c"), b.collection(ada, "d")
	b.member(ada, collection, eve, "viewer")

	first := b.call(ada, "POST", "/v1/items", withSource(collection, "HTTP://Bücher.Example:80/a/../%7eb?utm_source=x&q=1#top")).is(201)
	require.Equal(t, "http://xn--bcher-kva.example/~b?q=1", first.body["source_url"])
	require.Equal(t, first.body, b.call(ada, "GET", "/v1/items/"+first.id(), nil).is(200).body)

	known := withSource(collection, "http://xn--bcher-kva.example/~b?q=1&fbclid=2")
	known["title"], known["tags"] = "another title", []string{"x"}
	events := len(b.envelopes())
	again := b.call(ada, "POST", "/v1/items", known).is(200)
	require.Equal(t, first.body, again.body, "unchanged")
	require.Equal(t, `"1"`, again.header.Get("ETag"))
	require.Equal(t, "/v1/items/"+first.id(), again.header.Get("Location"))
	require.Len(t, b.envelopes(), events)

	b.call(eve, "POST", "/v1/items", known).problem(403, "forbidden")
	require.NotEqual(t, first.id(), b.call(ada, "POST", "/v1/items", withSource(other, "http://xn--bcher-kva.example/~b?q=1")).is(201).id())

	for _, url := range []string{"http://user:secret@a.b/", "http://a..b/", "http://a.b:99999/", "http://a.b/%zz"} {
		a := b.call(ada, "POST", "/v1/items", withSource(collection, url)).problem(422, "validation", "/source_url")
		require.NotContains(t, string(a.raw), "secret")
		b.call(ada, "PATCH", "/v1/items/"+first.id(), object{"source_url": url}).problem(422, "validation", "/source_url")
	}
}

func TestKnownSourceRefusesChanges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	collection, other := b.collection(ada, "c"), b.collection(ada, "d")
	first := b.call(ada, "POST", "/v1/items", withSource(collection, "http://a.b/1")).is(201).id()
	second := b.call(ada, "POST", "/v1/items", withSource(collection, "http://a.b/2")).is(201).id()
	foreign := b.call(ada, "POST", "/v1/items", withSource(other, "http://a.b/1")).is(201).id()

	a := b.call(ada, "PATCH", "/v1/items/"+second, object{"source_url": "http://A.b/./1", "title": "x"}).problem(409, "source-exists")
	require.Contains(t, a.body["detail"], first)
	a = b.call(ada, "PATCH", "/v1/items/"+foreign, object{"collection_id": collection}).problem(409, "source-exists")
	require.Contains(t, a.body["detail"], first)
	same := b.call(ada, "PATCH", "/v1/items/"+first, object{"source_url": "http://a.b/1#x"}).is(200)
	require.Equal(t, `"1"`, same.header.Get("ETag"), "it is its own")

	b.call(ada, "DELETE", "/v1/items/"+first, nil).is(204)
	b.call(ada, "PATCH", "/v1/items/"+second, object{"source_url": "http://a.b/1"}).is(200)
	a = b.call(ada, "POST", "/v1/items/"+first+"/restore", nil).problem(409, "source-exists")
	require.Contains(t, a.body["detail"], second)
	a = b.call(ada, "POST", "/v1/items/"+second+"/revisions/1/restore", nil).is(200)
	require.Equal(t, "http://a.b/2", a.body["source_url"])
	b.call(ada, "POST", "/v1/items/"+first+"/restore", nil).is(200)
	a = b.call(ada, "POST", "/v1/items/"+second+"/revisions/2/restore", nil).problem(409, "source-exists")
	require.Contains(t, a.body["detail"], first)
	b.call(ada, "PATCH", "/v1/items/"+first, object{"source_url": nil}).is(200)
	b.call(ada, "PATCH", "/v1/items/"+foreign, object{"collection_id": collection}).is(200)
}

// TestOneItemForASource has many clients save the same page at once.
func TestOneItemForASource(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	collection := b.collection(ada, "c")
	answers := make([]answer, 50)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			body := withSource(collection, fmt.Sprintf("https://example.com/page?utm_campaign=%d", i))
			body["tags"] = []string{"b", "a"}
			options := []option{}
			if i%2 == 0 {
				options = append(options, header("Idempotency-Key", fmt.Sprint("k", i)))
			}
			answers[i] = b.call(ada, "POST", "/v1/items", body, options...)
		})
	}
	wg.Wait()
	created := 0
	for _, a := range answers {
		if a.status == 201 {
			created++
			continue
		}
		a.is(200)
		require.Equal(t, answers[0].body, a.body)
	}
	require.Equal(t, 1, created)
	require.Len(t, b.call(ada, "GET", "/v1/items", nil).is(200).items(), 1)
	require.Equal(t, 1, b.count(event.ItemCreated))
}

// TestOneWinnerOfASource gives many items the same source at once, by every door.
func TestOneWinnerOfASource(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	collection, other := b.collection(ada, "c"), b.collection(ada, "d")
	var steps []func() answer
	for i := range 4 {
		patched := b.item(ada, collection, "patched")
		steps = append(steps, func() answer { return b.call(ada, "PATCH", "/v1/items/"+patched, object{"source_url": "http://a.b/"}) })

		trashed := b.call(ada, "POST", "/v1/items", withSource(collection, "http://a.b/")).is(201).id()
		b.call(ada, "DELETE", "/v1/items/"+trashed, nil).is(204)
		steps = append(steps, func() answer { return b.call(ada, "POST", "/v1/items/"+trashed+"/restore", nil) })

		moved := b.call(ada, "POST", "/v1/items", withSource(other, fmt.Sprint("http://a.b/", i))).is(201).id()
		steps = append(steps, func() answer {
			return b.call(ada, "PATCH", "/v1/items/"+moved, object{"collection_id": collection, "source_url": "http://a.b/"})
		})
	}
	var wg sync.WaitGroup
	statuses := make([]int, len(steps))
	for i, step := range steps {
		wg.Go(func() { statuses[i] = step().status })
	}
	wg.Wait()
	won := 0
	for _, status := range statuses {
		require.Contains(t, []int{200, 409}, status)
		if status == 200 {
			won++
		}
	}
	require.Equal(t, 1, won)
}

// TestSourceThatIsTakenMeanwhile lets another item get the source after it was found to be free.
func TestSourceThatIsTakenMeanwhile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	collection := b.collection(ada, "c")
	trashed := b.call(ada, "POST", "/v1/items", withSource(collection, "http://a.b/")).is(201).id()
	b.call(ada, "DELETE", "/v1/items/"+trashed, nil).is(204)
	first, second := b.item(ada, collection, "first"), b.item(ada, collection, "second")
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(t.Context()) //nolint:errcheck // committed below
	_, err = tx.Exec(t.Context(), "UPDATE items SET source_url = 'http://a.b/', source_key = sha256('http://a.b/'), version = 2 WHERE id = $1", first)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for _, try := range []func() answer{
		func() answer { return b.call(ada, "PATCH", "/v1/items/"+second, object{"source_url": "http://a.b/"}) },
		func() answer { return b.call(ada, "POST", "/v1/items/"+trashed+"/restore", nil) },
	} {
		wg.Go(func() { require.Contains(t, try().problem(409, "source-exists").body["detail"], first) })
	}
	wg.Go(func() {
		require.Equal(t, first, b.call(ada, "POST", "/v1/items", withSource(collection, "http://a.b/")).is(200).id())
	})
	b.waiting(3)
	require.NoError(t, tx.Commit(t.Context()))
	wg.Wait()
}

// waiting waits until so many sessions of the test's database wait for a lock.
func (b *testBundle) waiting(sessions int) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		var waiting int
		err := b.pool.QueryRow(b.t.Context(),
			"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&waiting)
		return err == nil && waiting == sessions
	}, time.Minute, 10*time.Millisecond)
}

// count is how many events of a type were written.
func (b *testBundle) count(eventType event.Type) int {
	b.t.Helper()
	count := 0
	for _, e := range b.envelopes() {
		if e.EventType == eventType {
			count++
		}
	}
	return count
}

// TestSourceThatTheVersionBeforeChanged: it writes source_url and knows nothing of source_key.
func TestSourceThatTheVersionBeforeChanged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	collection := b.collection(ada, "c")
	first := b.call(ada, "POST", "/v1/items", withSource(collection, "http://a.b/1")).is(201).id()
	_, err := b.pool.Exec(t.Context(), "UPDATE items SET source_url = 'http://a.b/2', version = version + 1 WHERE id = $1", first)
	require.NoError(t, err)
	second := b.call(ada, "POST", "/v1/items", withSource(collection, "http://a.b/1")).is(201).id()
	require.NotEqual(t, first, second, "the first one has another source by now")
	b.call(ada, "PATCH", "/v1/items/"+first, object{"source_url": "http://a.b/1"}).problem(409, "source-exists")
	b.call(ada, "PATCH", "/v1/items/"+first, object{"source_url": "http://a.b/3"}).is(200)
	b.call(ada, "POST", "/v1/items", withSource(collection, "http://a.b/3")).is(200)
}
