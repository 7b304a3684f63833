package worker_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/fetch"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/jobs/jobstest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/tasks"
	"github.com/atlas-platform/atlas/services/worker"
)

// web is a site at 127.0.0.2, whose pages a test sets.
type web struct {
	*httptest.Server
	mu    sync.Mutex
	pages map[string]http.HandlerFunc
	asked map[string]int
}

func newWeb(t *testing.T) *web {
	t.Helper()
	w := &web{pages: map[string]http.HandlerFunc{}, asked: map[string]int{}}
	listener, err := net.Listen("tcp", "127.0.0.2:0")
	require.NoError(t, err)
	w.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		page := w.pages[r.URL.Path]
		w.asked[r.URL.Path]++
		w.mu.Unlock()
		if page == nil {
			page = http.NotFound
		}
		page(rw, r)
	}))
	_ = w.Listener.Close()
	w.Listener = listener
	w.Start()
	t.Cleanup(w.Close)
	return w
}

// page sets a page, with an ETag, and returns its URL.
func (w *web) page(path, title, text string) string {
	return w.set(path, func(rw http.ResponseWriter, r *http.Request) {
		tag := fmt.Sprintf("%q", fmt.Sprint(len(title+text)))
		rw.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			rw.WriteHeader(http.StatusNotModified)
			return
		}
		rw.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprintf(rw, `<html lang="en"><title>%s</title><article itemprop="articleBody"><p>%s</p></article>`, title, text)
	})
}

func (w *web) set(path string, page http.HandlerFunc) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pages[path] = page
	return w.URL + path
}

func (w *web) times(path string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[path]
}

// enrichWorld is a collection whose items have sources on a site.
type enrichWorld struct {
	*indexingtest.Seed
	web        *web
	collection uuid.UUID
}

func newEnrichWorld(t *testing.T) enrichWorld {
	t.Helper()
	w := enrichWorld{Seed: indexingtest.NewSeed(t, pgtest.New(t)), web: newWeb(t)}
	w.collection = w.Collection(t)
	return w
}

func (w *enrichWorld) start(t *testing.T) (stop func()) {
	t.Helper()
	engine := jobstest.Fast()
	engine.Lease = jobstest.Patience // no test of leases
	return kafkatest.Start(t, worker.New(worker.Config{
		Engine: engine, EnrichInterval: 5 * time.Millisecond, Fetch: fetch.Config{Pause: time.Nanosecond, MaxPause: time.Nanosecond},
		Enrich: config.Enrich{Allow: []string{"127.0.0.2/32"}},
	}, worker.Deps{Logger: kafkatest.Logger(t), Pool: w.Pool}).Run)
}

func (w *enrichWorld) item(t *testing.T, title, source string) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	w.Exec(t, "INSERT INTO items (id, collection_id, title, source_url, created_by, updated_by) VALUES ($1, $2, $3, $4, $5, $5)", id, w.collection, title, source, w.User)
	return id
}

// job queues an enrich job by the user.
func (w *enrichWorld) job(t *testing.T, p tasks.EnrichParameters) uuid.UUID {
	t.Helper()
	p.CollectionID = w.collection
	raw, err := json.Marshal(p)
	require.NoError(t, err)
	id := uuid.Must(uuid.NewV7())
	w.Exec(t, "INSERT INTO jobs (id, type, parameters, collection_id, created_by, max_attempts) VALUES ($1, 'enrich', $2, $3, $4, 5)", id, raw, w.collection, w.User)
	return id
}

type enrichedItem struct {
	Title, Text, Language, Excerpt, Error string
	Words                                 int
	Version                               int64
	Pending                               bool
}

func (w *enrichWorld) read(t *testing.T, id uuid.UUID) (i enrichedItem) {
	t.Helper()
	require.NoError(t, w.Pool.QueryRow(t.Context(), `SELECT i.title, i.version, coalesce(e.text, ''), coalesce(e.language, ''), coalesce(e.excerpt, ''),
		coalesce(e.error_code, ''), coalesce(e.word_count, 0), e.wanted_in IS NOT NULL FROM items i LEFT JOIN item_extracts e ON e.item_id = i.id WHERE i.id = $1`, id).
		Scan(&i.Title, &i.Version, &i.Text, &i.Language, &i.Excerpt, &i.Error, &i.Words, &i.Pending))
	return i
}

// events are the changed fields of the item's updates, in order; each is valid and by the user.
func (w *enrichWorld) events(t *testing.T, id uuid.UUID) (changed [][]string) {
	t.Helper()
	rows, err := w.Pool.Query(t.Context(), "SELECT payload FROM outbox WHERE aggregate_id = $1 ORDER BY id", id)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var payload []byte
		require.NoError(t, rows.Scan(&payload))
		require.NoError(t, event.Validate(payload))
		e, err := event.Decode(payload)
		require.NoError(t, err)
		require.Equal(t, event.ItemUpdated, e.EventType)
		require.Equal(t, w.User, *e.ActorUserID)
		var data event.ItemData
		require.NoError(t, json.Unmarshal(e.Data, &data))
		require.EqualValues(t, len(changed)+2, data.EntityVersion)
		changed = append(changed, data.ChangedFields)
	}
	require.NoError(t, rows.Err())
	return changed
}

func (w *enrichWorld) done(t *testing.T, job uuid.UUID) (result struct {
	Pages, Changed, Titled, Unchanged, Failed, Postponed, Left int
	Failures                                                   []struct{ Code string }
},
) {
	t.Helper()
	row := jobstest.Becomes(t, w.Pool, job, "SUCCEEDED")
	require.NoError(t, json.Unmarshal(row.Result, &result))
	require.EqualValues(t, result.Pages, row.Done)
	require.EqualValues(t, result.Pages, row.Total)
	return result
}

func TestEnrichFillsEmptyTitlesAndExtracts(t *testing.T) {
	t.Parallel()
	w := newEnrichWorld(t)
	w.start(t)
	empty := w.item(t, "", w.web.page("/a", "A page", "The page is about sourdough bread."))
	titled := w.item(t, "My own title", w.web.page("/b", "Another page", "The page is about rye bread."))
	missing := w.item(t, "Gone", w.web.URL+"/missing")
	inside := w.item(t, "", "http://127.0.0.1:1/")
	plain := w.Item(t, w.collection, "no source", "")
	result := w.done(t, w.job(t, tasks.EnrichParameters{}))
	require.Equal(t, 4, result.Pages)
	require.Equal(t, 2, result.Changed)
	require.Equal(t, 1, result.Titled)
	require.Equal(t, 2, result.Failed)
	require.Zero(t, result.Postponed)

	require.Equal(t, enrichedItem{
		Title: "A page", Text: "The page is about sourdough bread.", Excerpt: "The page is about sourdough bread.", Language: "en", Words: 6, Version: 2,
	}, w.read(t, empty))
	require.Equal(t, [][]string{{"title", "extract"}}, w.events(t, empty))
	require.Equal(t, "My own title", w.read(t, titled).Title)
	require.Equal(t, [][]string{{"extract"}}, w.events(t, titled))
	require.Equal(t, enrichedItem{Title: "Gone", Error: "http_404", Version: 1}, w.read(t, missing))
	require.Equal(t, enrichedItem{Error: "blocked_address", Version: 1}, w.read(t, inside))
	require.Equal(t, enrichedItem{Title: "no source", Version: 1}, w.read(t, plain))
	// The history says what the title was, and who made the change.
	require.Equal(t, 1, count(t, w.Pool, `SELECT count(*) FROM item_revisions WHERE item_id = $1 AND version = 2 AND changed_by = $2
		AND changed_fields = '{title,extract}' AND before = '{"title": ""}'`, empty, w.User))
	require.Equal(t, 1, count(t, w.Pool, "SELECT count(*) FROM items WHERE search_vector @@ to_tsquery('english', 'sourdough')"))

	// Again: nothing was never fetched.
	require.Zero(t, w.done(t, w.job(t, tasks.EnrichParameters{})).Pages)
	// A refresh finds the pages unchanged, by their ETag, and writes nothing.
	result = w.done(t, w.job(t, tasks.EnrichParameters{Refresh: true, ItemIDs: []uuid.UUID{empty, titled, plain, uuid.New()}}))
	require.Equal(t, 2, result.Unchanged)
	require.Equal(t, 2, result.Pages)
	require.Equal(t, 2, w.web.times("/a"))
	require.EqualValues(t, 2, w.read(t, empty).Version)
	require.Len(t, w.events(t, empty), 1)
	// A page that says something else changes the item once more, but not its title.
	w.web.page("/a", "A new title", "The page is about croissants now.")
	require.Equal(t, 1, w.done(t, w.job(t, tasks.EnrichParameters{Refresh: true, ItemIDs: []uuid.UUID{empty}})).Changed)
	require.Equal(t, "A page", w.read(t, empty).Title)
	require.Equal(t, "The page is about croissants now.", w.read(t, empty).Text)
	require.Equal(t, [][]string{{"title", "extract"}, {"extract"}}, w.events(t, empty))
	// One that can't be had any more leaves what there was.
	w.web.set("/a", http.NotFound)
	require.Equal(t, 1, w.done(t, w.job(t, tasks.EnrichParameters{Refresh: true, ItemIDs: []uuid.UUID{empty}})).Failed)
	require.Equal(t, "http_404", w.read(t, empty).Error)
	require.Equal(t, "The page is about croissants now.", w.read(t, empty).Text)
	require.EqualValues(t, 3, w.read(t, empty).Version)
}

func TestACollectionThatAsksForItIsEnrichedByItself(t *testing.T) {
	t.Parallel()
	w := newEnrichWorld(t)
	other := w.item(t, "before", w.web.page("/before", "x", "It was there before the collection asked."))
	w.Exec(t, "UPDATE collections SET enrich = true WHERE id = $1", w.collection)
	const items = 200
	w.web.page("/", "Page", "The page is about bread.")
	w.Exec(t, `INSERT INTO items (id, collection_id, title, source_url, created_by, updated_by)
		SELECT gen_random_uuid(), $1, '', $2 || '/?' || n, $3, $3 FROM generate_series(1, $4::int) AS n`, w.collection, w.web.URL, w.User, items)
	w.Exec(t, "INSERT INTO items (id, collection_id, title, created_by, updated_by) VALUES ($1, $2, 'no source', $3, $3)", uuid.New(), w.collection, w.User)
	w.start(t)
	require.Eventually(t, func() bool {
		return count(t, w.Pool, "SELECT count(*) FROM items WHERE title = 'Page' AND version = 2") == items &&
			count(t, w.Pool, "SELECT count(*) FROM jobs WHERE state = 'SUCCEEDED'") == 1
	}, jobstest.Patience, 10*time.Millisecond)
	require.Equal(t, 1, count(t, w.Pool, "SELECT count(*) FROM jobs"), "one job for all")
	require.Equal(t, enrichedItem{Title: "before", Version: 1}, w.read(t, other))

	// Another source is another page; the page before is gone at once.
	changed := w.item(t, "", w.web.page("/one", "One", "The first page."))
	require.Eventually(t, func() bool { return w.read(t, changed).Title == "One" }, jobstest.Patience, 10*time.Millisecond)
	w.web.page("/two", "Two", "The second page.")
	w.Exec(t, "UPDATE items SET source_url = $2, version = version + 1 WHERE id = $1", changed, w.web.URL+"/two")
	require.Eventually(t, func() bool { return w.read(t, changed).Text == "The second page." }, jobstest.Patience, 10*time.Millisecond)
	require.Equal(t, "One", w.read(t, changed).Title)
	require.Zero(t, count(t, w.Pool, "SELECT count(*) FROM items WHERE id = $1 AND search_vector @@ to_tsquery('english', 'first')", changed))
	w.Exec(t, "UPDATE items SET source_url = NULL, version = version + 1 WHERE id = $1", changed)
	require.Zero(t, count(t, w.Pool, "SELECT count(*) FROM item_extracts WHERE item_id = $1", changed))
}

// TestWhatChangesMeanwhileWins edits items while their pages are on the way.
func TestWhatChangesMeanwhileWins(t *testing.T) {
	t.Parallel()
	w := newEnrichWorld(t)
	arrived, leave := make(chan string, 10), make(chan struct{})
	slow := func(path string) string {
		return w.web.set(path, func(rw http.ResponseWriter, _ *http.Request) {
			arrived <- path
			<-leave
			rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = rw.Write([]byte("needle"))
		})
	}
	item := w.item(t, "", slow("/slow"))
	w.start(t)
	job := w.job(t, tasks.EnrichParameters{})
	require.Equal(t, "/slow", <-arrived)
	other := w.web.page("/other", "Other", "x")
	w.Exec(t, "UPDATE items SET source_url = $2, version = version + 1 WHERE id = $1", item, other)
	close(leave)
	require.Zero(t, w.done(t, job).Pages)
	require.Equal(t, enrichedItem{Version: 2}, w.read(t, item), "what came is of another source")
	require.Empty(t, w.events(t, item))
}

func TestATitleThatIsGivenMeanwhileStays(t *testing.T) {
	t.Parallel()
	w := newEnrichWorld(t)
	arrived, leave := make(chan struct{}), make(chan struct{})
	item := w.item(t, "", w.web.set("/slow", func(rw http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-leave
		rw.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = rw.Write([]byte("<title>Theirs</title><p>needle"))
	}))
	w.start(t)
	job := w.job(t, tasks.EnrichParameters{})
	<-arrived
	w.Exec(t, "UPDATE items SET title = 'mine', version = version + 1 WHERE id = $1", item)
	close(leave)
	require.Equal(t, 1, w.done(t, job).Changed)
	got := w.read(t, item)
	require.Equal(t, "mine", got.Title)
	require.EqualValues(t, 3, got.Version)
}

func TestAPageThatCantBeHadNowIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newEnrichWorld(t)
	var fails atomic.Bool
	fails.Store(true)
	item := w.item(t, "", w.web.set("/busy", func(rw http.ResponseWriter, _ *http.Request) {
		if fails.Load() {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		rw.Header().Set("Content-Type", "text/html")
		_, _ = rw.Write([]byte("<title>Back</title>"))
	}))
	w.start(t)
	result := w.done(t, w.job(t, tasks.EnrichParameters{}))
	require.Equal(t, 1, result.Postponed)
	require.Equal(t, "http_503", result.Failures[0].Code)
	got := w.read(t, item)
	require.True(t, got.Pending)
	require.Equal(t, "http_503", got.Error)
	require.Equal(t, 1, count(t, w.Pool, "SELECT count(*) FROM item_extracts WHERE due_at > now() + interval '4 minutes' AND due_at < now() + interval '6 minutes'"))
	fails.Store(false)
	w.Exec(t, "UPDATE item_extracts SET due_at = now()") // five minutes later
	require.Eventually(t, func() bool { return w.read(t, item).Title == "Back" }, jobstest.Patience, 10*time.Millisecond)
	require.False(t, w.read(t, item).Pending)
	require.Equal(t, 2, count(t, w.Pool, "SELECT count(*) FROM jobs"))
}

// TestAnEnrichJobGoesOnAfterItsWorkerStopped stops the worker in the middle: each item gets its version once.
func TestAnEnrichJobGoesOnAfterItsWorkerStopped(t *testing.T) {
	t.Parallel()
	w := newEnrichWorld(t)
	const items = 120
	var served atomic.Int64
	stopAt := make(chan struct{})
	w.web.set("/", func(rw http.ResponseWriter, r *http.Request) {
		if served.Add(1) == items/2 {
			close(stopAt)
			<-r.Context().Done()
			return
		}
		rw.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(rw, "<title>Page %s</title><p>text", r.URL.RawQuery)
	})
	for n := range items {
		w.item(t, "", fmt.Sprintf("%s/?%d", w.web.URL, n))
	}
	stop := w.start(t)
	job := w.job(t, tasks.EnrichParameters{})
	<-stopAt
	stop()
	require.Less(t, count(t, w.Pool, "SELECT count(*) FROM items WHERE version = 2"), items)
	require.Zero(t, count(t, w.Pool, "SELECT count(*) FROM item_extracts WHERE wanted_in IS NOT NULL AND due_at > now()"), "what was not finished is due")
	w.start(t)
	require.Equal(t, items, w.done(t, job).Pages)
	require.Equal(t, items, count(t, w.Pool, "SELECT count(*) FROM items WHERE version = 2 AND title LIKE 'Page %'"))
	require.Equal(t, items, count(t, w.Pool, "SELECT count(*) FROM outbox WHERE aggregate_id <> $1", job))
}

func TestItemsThatAreGoneAreNotEnriched(t *testing.T) {
	t.Parallel()
	w := newEnrichWorld(t)
	w.Exec(t, "UPDATE collections SET enrich = true WHERE id = $1", w.collection)
	gone := w.item(t, "", w.web.page("/gone", "Gone", "x"))
	w.Delete(t, gone)
	w.start(t)
	require.Eventually(t, func() bool { return count(t, w.Pool, "SELECT count(*) FROM jobs WHERE state = 'SUCCEEDED'") == 1 }, jobstest.Patience, 5*time.Millisecond)
	require.Zero(t, w.web.times("/gone"))
	require.False(t, w.read(t, gone).Pending)
	// Out of the trash, it is wanted again.
	w.Exec(t, "UPDATE items SET deleted_at = NULL, version = version + 1 WHERE id = $1", gone)
	require.Eventually(t, func() bool { return w.read(t, gone).Title == "Gone" }, jobstest.Patience, 5*time.Millisecond)
	require.True(t, strings.HasPrefix(w.web.URL, "http://127.0.0.2:"))
}

// TestAnEmptyListOfItemsIsNotAllItems: the API refuses it, but a schedule of before may have one.
func TestAnEmptyListOfItemsIsNotAllItems(t *testing.T) {
	t.Parallel()
	w := newEnrichWorld(t)
	w.item(t, "", w.web.page("/one", "One", "x"))
	id := w.job(t, tasks.EnrichParameters{})
	w.Exec(t, `UPDATE jobs SET parameters = parameters || '{"item_ids": []}' WHERE id = $1`, id)
	w.start(t)
	row := jobstest.Becomes(t, w.Pool, id, "FAILED")
	require.Contains(t, *row.Error, "item_ids is empty")
	require.Zero(t, w.web.times("/one"))
}
