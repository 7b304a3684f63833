package consistency_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/elastic/go-elasticsearch/v8"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/consistency"
	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

// quick settles at once: these tests leave nothing on its way.
var quick = consistency.Options{Settle: 50 * time.Millisecond, Patience: 20 * time.Second}

type world struct {
	*indexingtest.Seed
	es      *elasticsearch.Client
	alias   string
	checker *consistency.Checker
	indexer *indexing.Indexer
}

func newWorld(t *testing.T) world {
	t.Helper()
	pool, es := pgtest.New(t), indexingtest.Client(t)
	alias := indexingtest.NewAlias(t, es)
	return world{
		Seed: indexingtest.NewSeed(t, pool), es: es, alias: alias,
		checker: consistency.New(pool, es, alias), indexer: indexing.New(pool, es, alias),
	}
}

// items makes items and puts them into the index.
func (w world) items(t *testing.T, collection uuid.UUID, n int) []uuid.UUID {
	t.Helper()
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = w.Item(t, collection, fmt.Sprint("item ", i), "text", "tag")
	}
	w.sync(t, ids...)
	return ids
}

func (w world) sync(t *testing.T, ids ...uuid.UUID) {
	t.Helper()
	targets := make([]indexing.Target, len(ids))
	for i, id := range ids {
		targets[i] = indexing.Target{ItemID: id}
	}
	rejected, err := w.indexer.Sync(context.Background(), targets)
	require.NoError(t, err)
	require.Empty(t, rejected)
	indexingtest.Refresh(t, w.es, w.alias)
}

// write writes straight to the index.
func (w world) write(t *testing.T, id string, version int64, document string) {
	t.Helper()
	action := elastic.BulkAction{ID: id, Version: version, VersionType: elastic.VersionExternalGTE}
	if document != "" {
		action.Document = []byte(document)
	}
	results, err := elastic.NewBulkWriter(w.es, w.alias, 0).Write(context.Background(), []elastic.BulkAction{action})
	require.NoError(t, err)
	require.Equal(t, elastic.BulkApplied, results[0].Outcome)
	indexingtest.Refresh(t, w.es, w.alias)
}

func (w world) index(t *testing.T, o consistency.Options) *consistency.Report {
	t.Helper()
	report, err := w.checker.Index(context.Background(), o)
	require.NoError(t, err)
	return report
}

// found are the ids of a report's examples by kind.
func found(report *consistency.Report) map[consistency.Kind][]string {
	out := map[consistency.Kind][]string{}
	for _, d := range report.Differences {
		for _, e := range d.Examples {
			out[d.Kind] = append(out[d.Kind], e.ID)
		}
	}
	return out
}

func repairing(o consistency.Options) consistency.Options {
	o.Repair = true
	return o
}

// TestIndexDifferencesAreFoundAndMended breaks the index in every way and sees exactly that reported, mended, and gone.
func TestIndexDifferencesAreFoundAndMended(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.Collection(t)
	ids := w.items(t, c, 12)
	require.True(t, w.index(t, quick).Clean())

	missing, stale, trashed, unrecorded, foreign := ids[1], ids[3], ids[5], ids[7], uuid.Must(uuid.NewV7())
	w.write(t, missing.String(), 1, "")
	w.Update(t, stale, "new title")
	w.Delete(t, trashed)
	w.Exec(t, "DELETE FROM item_index_state WHERE item_id = $1", unrecorded)
	w.write(t, foreign.String(), 4, `{"id":"`+foreign.String()+`","title":"whose?"}`)
	w.write(t, "no \"id\" at all 😀", 1, `{"title":"nobody's"}`)
	other := uuid.Must(uuid.NewV7())
	w.write(t, other.String(), 1, `{"id":"`+ids[9].String()+`","title":"in disguise"}`)

	want := map[consistency.Kind][]string{
		consistency.IndexMissing: {missing.String()}, consistency.IndexStale: {stale.String()},
		consistency.IndexUnrecorded: {unrecorded.String()},
	}
	extra := []string{trashed.String(), foreign.String(), "no \"id\" at all 😀", other.String()}
	report := w.index(t, quick)
	got := found(report)
	require.ElementsMatch(t, extra, got[consistency.IndexExtra])
	delete(got, consistency.IndexExtra)
	require.Equal(t, want, got)
	require.EqualValues(t, 7, report.Remaining())
	require.Zero(t, report.Undecided)
	require.EqualValues(t, 12, report.Checked.Items)
	require.EqualValues(t, 14, report.Checked.Documents)

	report = w.index(t, repairing(quick))
	require.True(t, report.Clean(), "%+v", report)
	for _, d := range report.Differences {
		require.Equal(t, d.Count, d.Mended, d.Kind)
	}
	indexingtest.Refresh(t, w.es, w.alias)
	require.Empty(t, w.index(t, quick).Differences)
	require.Equal(t, "new title", indexingtest.Get(t, w.es, w.alias, stale).Source["title"])
}

// TestItemsOfADeletedCollectionMayNotBeInTheIndex, though their own rows do not say so yet.
func TestItemsOfADeletedCollectionMayNotBeInTheIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.Collection(t)
	ids := w.items(t, c, 2)
	w.Exec(t, "UPDATE collections SET deleted_at = now(), version = 2 WHERE id = $1", c)
	require.ElementsMatch(t, []string{ids[0].String(), ids[1].String()}, found(w.index(t, quick))[consistency.IndexExtra])
	require.True(t, w.index(t, repairing(quick)).Clean())
	indexingtest.Refresh(t, w.es, w.alias)
	require.Empty(t, w.index(t, quick).Differences)
}

func TestARefusedItemIsNamedWithItsReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.Item(t, w.Collection(t), "refused", "")
	w.Exec(t, "INSERT INTO item_index_state (item_id, indexed_version, failed_version, failed_reason) VALUES ($1, 0, 1, 'too odd')", id)
	report := w.index(t, quick)
	require.Equal(t, map[consistency.Kind][]string{consistency.IndexRefused: {id.String()}}, found(report))
	require.Contains(t, report.Differences[0].Examples[0].Detail, "too odd")
	require.True(t, w.index(t, repairing(quick)).Clean(), "it is taken after all")
}

func TestOnlyADeepCheckSeesOtherContents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := w.items(t, w.Collection(t), 3)
	w.write(t, ids[1].String(), 1, `{"id":"`+ids[1].String()+`","title":"something else"}`)
	require.True(t, w.index(t, quick).Clean())
	deep := quick
	deep.Deep = true
	require.Equal(t, map[consistency.Kind][]string{consistency.IndexDifferent: {ids[1].String()}}, found(w.index(t, deep)))
	require.True(t, w.index(t, repairing(deep)).Clean())
	indexingtest.Refresh(t, w.es, w.alias)
	require.Empty(t, w.index(t, deep).Differences)
}

// TestAnIndexAheadOfPostgreSQLIsNotMended: nothing that the truth says has a version that the index would heed.
// TestWhatWasDoneByHandIsMended: Elasticsearch has versions then that PostgreSQL's don't pass.
func TestWhatWasDoneByHandIsMended(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := w.items(t, w.Collection(t), 4)
	ahead, removed, queried := ids[0], ids[1], ids[2]
	w.write(t, ahead.String(), 9, `{"id":"`+ahead.String()+`","title":"from the future"}`)
	res, err := w.es.Delete(w.alias, removed.String())
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	indexingtest.Refresh(t, w.es, w.alias)
	res, err = w.es.DeleteByQuery([]string{w.alias}, strings.NewReader(`{"query":{"ids":{"values":["`+queried.String()+`"]}}}`))
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())

	report := w.index(t, quick)
	got := found(report)
	require.Equal(t, []string{ahead.String()}, got[consistency.IndexAhead])
	require.ElementsMatch(t, []string{removed.String(), queried.String()}, got[consistency.IndexMissing])
	report = w.index(t, repairing(quick))
	require.True(t, report.Clean(), "%+v", report)
	require.Empty(t, w.index(t, quick).Differences)
	require.EqualValues(t, 1, indexingtest.Get(t, w.es, w.alias, ahead).Version)

	// What is deleted in the regular way is remembered again.
	settings, err := w.es.Indices.GetSettings(w.es.Indices.GetSettings.WithIndex(w.alias), w.es.Indices.GetSettings.WithFlatSettings(true))
	require.NoError(t, err)
	body, err := io.ReadAll(settings.Body)
	require.NoError(t, err)
	require.NoError(t, settings.Body.Close())
	require.Contains(t, string(body), `"index.gc_deletes":"1h"`)
}

// TestWhatIsOnItsWayIsNoDifference: an event that is not published keeps its item undecided; the check ends as soon as it has arrived.
func TestWhatIsOnItsWayIsNoDifference(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := w.items(t, w.Collection(t), 2)
	w.Update(t, ids[0], "on its way")
	w.Exec(t, "INSERT INTO outbox (event_id, aggregate_id, payload) VALUES ($1, $2, '{}')", uuid.New(), ids[0])
	impatient := quick
	impatient.Patience = 300 * time.Millisecond
	report := w.index(t, impatient)
	require.Empty(t, report.Differences)
	require.EqualValues(t, 1, report.Undecided)
	require.False(t, report.Clean())

	reports := make(chan *consistency.Report, 1)
	looked := make(chan struct{}, 1)
	patient := consistency.Options{Settle: 2 * time.Second, Patience: time.Minute, Progress: func(string, int64) {
		select {
		case looked <- struct{}{}:
		default:
		}
	}}
	go func() {
		report, _ := w.checker.Index(context.Background(), patient)
		reports <- report
	}()
	<-looked
	w.sync(t, ids[0])
	require.True(t, (<-reports).Clean())
}

// TestEveryKindIsSeenAcrossPages has more items than fit in a page, and suspects at its edges.
func TestEveryKindIsSeenAcrossPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.Collection(t)
	w.Exec(t, `INSERT INTO items (id, collection_id, title, created_by, updated_by)
		SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, $1, 'item ' || n, $2, $2 FROM generate_series(1, 2500) AS n`, c, w.User)
	page, err := w.indexer.Page(context.Background(), c, uuid.Nil, 5000)
	require.NoError(t, err)
	_, err = w.indexer.Sync(context.Background(), page)
	require.NoError(t, err)
	indexingtest.Refresh(t, w.es, w.alias)
	require.True(t, w.index(t, quick).Clean())
	var want []string
	for _, n := range []int{0, 999, 1000, 1001, 1999, 2000, 2499} {
		want = append(want, page[n].ItemID.String())
		w.write(t, page[n].ItemID.String(), 1, "")
	}
	report := w.index(t, quick)
	require.Equal(t, map[consistency.Kind][]string{consistency.IndexMissing: want}, found(report))
	require.EqualValues(t, 2500, report.Checked.Items)
	require.EqualValues(t, 2493, report.Checked.Documents)
}
