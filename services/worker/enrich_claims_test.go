package worker_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/enrich"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/jobs/jobstest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/tasks"
)

// gated makes n items whose pages come when the gate is opened; some tells of each that is asked for.
func (w *enrichWorld) gated(t *testing.T, n int) (some chan struct{}, open func()) {
	t.Helper()
	some = make(chan struct{}, 10*n)
	gate := make(chan struct{})
	w.web.set("/", func(rw http.ResponseWriter, r *http.Request) {
		some <- struct{}{}
		select {
		case <-gate:
		case <-r.Context().Done():
		}
		rw.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(rw, "<title>Page %s</title><p>text", r.URL.RawQuery)
	})
	for i := range n {
		w.item(t, "", fmt.Sprintf("%s/?%d", w.web.URL, i))
	}
	open = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open)
	return some, open
}

// change does something to a job, as the API does.
func (w *enrichWorld) change(t *testing.T, what func(q *db.Queries) error) {
	t.Helper()
	require.NoError(t, postgres.InTx(t.Context(), w.Pool, func(tx pgx.Tx) error { return what(db.New(tx)) }))
}

func (w *enrichWorld) cancel(t *testing.T, job uuid.UUID) {
	t.Helper()
	w.change(t, func(q *db.Queries) error {
		_, err := jobs.Cancel(t.Context(), q, job, &w.User)
		return err
	})
}

// look is what each worker's queue does every few seconds.
func (w *enrichWorld) look(t *testing.T) (made int) {
	t.Helper()
	made, err := enrich.NewQueue(kafkatest.Logger(t), w.Pool, time.Hour, func() {}).Look(t.Context())
	require.NoError(t, err)
	return made
}

func (w *enrichWorld) wanted(t *testing.T) int {
	t.Helper()
	return count(t, w.Pool, "SELECT count(*) FROM item_extracts WHERE wanted_in IS NOT NULL")
}

func (w *enrichWorld) enriched(t *testing.T) int {
	t.Helper()
	return count(t, w.Pool, "SELECT count(*) FROM items WHERE version = 2 AND title LIKE 'Page %'")
}

func TestWhatACancelledEnrichJobAskedForIsNotFetched(t *testing.T) {
	t.Parallel()
	w := newEnrichWorld(t)
	const items = 60
	some, open := w.gated(t, items)
	w.start(t)
	job := w.job(t, tasks.EnrichParameters{})
	<-some
	w.cancel(t, job)
	jobstest.Becomes(t, w.Pool, job, "CANCELLED")
	require.Eventually(t, func() bool { return w.wanted(t) == 0 }, jobstest.Patience, 5*time.Millisecond, "nobody wants its pages")
	require.Zero(t, w.look(t))
	require.Equal(t, 1, count(t, w.Pool, "SELECT count(*) FROM jobs"), "nobody fetches them instead")
	open()
	require.Zero(t, w.enriched(t))
	// Retried, it does all of its work.
	w.change(t, func(q *db.Queries) error {
		_, err := jobs.Retry(t.Context(), q, job, &w.User)
		return err
	})
	require.Equal(t, items, w.done(t, job).Pages)
	require.Equal(t, items, w.enriched(t))
	require.Equal(t, items, count(t, w.Pool, "SELECT count(*) FROM outbox WHERE aggregate_id <> $1 AND payload::text LIKE '%ItemUpdated%' AND payload::text LIKE '%'||$2||'%'",
		job, w.User.String()), "as who asked for them")
}

func TestACancelledEnrichJobOfThePlatformIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	w := newEnrichWorld(t)
	w.Exec(t, "UPDATE collections SET enrich = true WHERE id = $1", w.collection)
	_, open := w.gated(t, 1500)
	open()
	require.Equal(t, 1, w.look(t))
	var job uuid.UUID
	require.NoError(t, w.Pool.QueryRow(t.Context(), "SELECT id FROM jobs WHERE created_by IS NULL").Scan(&job))
	w.cancel(t, job)
	require.Equal(t, "CANCELLED", jobstest.Read(t, w.Pool, job).State)
	require.Zero(t, w.look(t), "not for the same pages")
	require.Zero(t, w.wanted(t))
	// An item that changes asks again, for its own page.
	w.Exec(t, "UPDATE items SET source_url = source_url || '1', version = version + 1 WHERE id = (SELECT id FROM items LIMIT 1)")
	require.Equal(t, 1, w.look(t))
	require.Equal(t, 1, w.wanted(t))
}

// killed makes a job whose worker died with some of its pages in hand, after it had fetched none.
func (w *enrichWorld) killed(t *testing.T, pages, inHand int) uuid.UUID {
	t.Helper()
	job := w.job(t, tasks.EnrichParameters{})
	w.Exec(t, `UPDATE jobs SET state = 'RUNNING', attempt = 1, lease_owner = 'dead#1', lease_expires_at = now() - interval '1 second', started_at = now(),
		attempt_started_at = now(), checkpoint = jsonb_build_object('asked', true, 'wanted', $2::int) WHERE id = $1`, job, pages)
	w.Exec(t, `INSERT INTO item_extracts (item_id, wanted_in, wanted_by, due_at, job_id) SELECT id, collection_id, $2, now(), $1 FROM items`, job, w.User)
	claims, err := db.New(w.Pool).ClaimExtracts(t.Context(), db.ClaimExtractsParams{JobID: job, LeaseOwner: "dead#1", BatchSize: int32(inHand), ClaimSeconds: 1800})
	require.NoError(t, err)
	require.Len(t, claims, inHand)
	return job
}

func TestAnEnrichJobOfADeadWorkerFetchesAllItsPages(t *testing.T) {
	t.Parallel()
	w := newEnrichWorld(t)
	const items = 70
	_, open := w.gated(t, items)
	open()
	job := w.killed(t, items, 41)
	w.start(t)
	result := w.done(t, job)
	require.Equal(t, items, result.Pages)
	require.Zero(t, result.Left)
	require.Equal(t, items, w.enriched(t))
	require.Zero(t, w.wanted(t))
	// What the dead one believes to hold is not its own.
	claims, err := db.New(w.Pool).ClaimExtracts(t.Context(), db.ClaimExtractsParams{JobID: job, LeaseOwner: "dead#1", BatchSize: 10, ClaimSeconds: 1})
	require.NoError(t, err)
	require.Empty(t, claims)
}

func TestACancelledEnrichJobOfADeadWorkerFetchesNothing(t *testing.T) {
	t.Parallel()
	w := newEnrichWorld(t)
	_, open := w.gated(t, 70)
	open()
	job := w.killed(t, 70, 41)
	w.cancel(t, job)
	w.start(t)
	jobstest.Becomes(t, w.Pool, job, "CANCELLED")
	require.Eventually(t, func() bool { return w.wanted(t) == 0 }, jobstest.Patience, 5*time.Millisecond)
	require.Zero(t, w.look(t))
	require.Zero(t, w.web.times("/"))
	require.Equal(t, 1, count(t, w.Pool, "SELECT count(*) FROM jobs"))
}

// TestWhatAFailedEnrichJobLeftIsFetchedAtOnce: its last worker died.
func TestWhatAFailedEnrichJobLeftIsFetchedAtOnce(t *testing.T) {
	t.Parallel()
	w := newEnrichWorld(t)
	_, open := w.gated(t, 70)
	open()
	job := w.killed(t, 70, 41)
	w.Exec(t, "UPDATE jobs SET attempt = max_attempts WHERE id = $1", job)
	w.start(t)
	jobstest.Becomes(t, w.Pool, job, "FAILED")
	require.Eventually(t, func() bool { return w.enriched(t) == 70 && w.wanted(t) == 0 }, jobstest.Patience, 5*time.Millisecond)
}

func TestEnrichJobsOfOneCollectionCountTheirOwnPages(t *testing.T) {
	t.Parallel()
	w := newEnrichWorld(t)
	w.Exec(t, "UPDATE collections SET enrich = true WHERE id = $1", w.collection)
	const items = 100
	some, open := w.gated(t, items)
	w.start(t)
	<-some // of the platform's job
	var auto uuid.UUID
	require.NoError(t, w.Pool.QueryRow(t.Context(), "SELECT id FROM jobs WHERE created_by IS NULL").Scan(&auto))
	rows, err := w.Pool.Query(t.Context(), "SELECT id FROM items ORDER BY id DESC LIMIT 30")
	require.NoError(t, err)
	few, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	require.NoError(t, err)
	first := w.job(t, tasks.EnrichParameters{ItemIDs: few})
	require.Eventually(t, func() bool { return jobstest.Read(t, w.Pool, first).Total == 30 }, jobstest.Patience, 5*time.Millisecond)
	second := w.job(t, tasks.EnrichParameters{ItemIDs: few[:10]})
	require.Eventually(t, func() bool { return jobstest.Read(t, w.Pool, second).Total == 10 }, jobstest.Patience, 5*time.Millisecond)
	open()
	one, two := w.done(t, first), w.done(t, second)
	require.Equal(t, 10, two.Pages)
	require.Zero(t, two.Left)
	require.Equal(t, 20, one.Pages)
	require.Equal(t, 10, one.Left)
	require.Equal(t, items-30, w.done(t, auto).Pages)
	require.Equal(t, items, w.enriched(t))
}
