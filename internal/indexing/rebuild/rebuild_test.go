package rebuild_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/elastic/go-elasticsearch/v8"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/consistency"
	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/indexing/keeper"
	"github.com/atlas-platform/atlas/internal/indexing/rebuild"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

const (
	patience = time.Minute
	many     = 600 // three pages
)

var phases = []string{"create", "backfill", "catch up", "verify", "swap", "final", "retire"}

// world has an index that a keeper has filled with many items, and a job that rebuilds it.
type world struct {
	*indexingtest.Seed
	es         *elasticsearch.Client
	alias      string
	collection uuid.UUID
	items      *indexing.Indexer
	old        elastic.IndexID
	job        uuid.UUID
	checkpoint json.RawMessage
	doing      []string // what it said that it does
}

func newWorld(t *testing.T) *world {
	t.Helper()
	pool, es := pgtest.New(t), indexingtest.Client(t)
	w := &world{Seed: indexingtest.NewSeed(t, pool), es: es, alias: indexingtest.NewAlias(t, es)}
	w.collection, w.items = w.Collection(t), indexing.New(pool, es, w.alias)
	w.Exec(t, `INSERT INTO items (id, collection_id, title, created_by, updated_by, created_at, updated_at)
		SELECT ('019b0000-' || lpad(to_hex(n), 4, '0') || '-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, $1, 'item ' || n, $2, $2,
			now() - interval '1 day', now() - interval '1 day'
		FROM generate_series(1, $3) AS n`, w.collection, w.User, many)
	require.NoError(t, w.keeper(t).Round(t.Context()))
	w.old = w.index(t)
	w.enqueue(t)
	// The definition changes: an operator of another version was here.
	def, err := elastic.Definition(elastic.Params{Shards: 2, RefreshInterval: 200 * time.Millisecond})
	require.NoError(t, err)
	put(t, es, http.MethodPut, "/_index_template/"+elastic.TemplateName(w.alias), def.Template(w.alias))
	return w
}

func (w *world) enqueue(t *testing.T) {
	w.job, w.checkpoint = uuid.Must(uuid.NewV7()), nil
	w.Exec(t, "INSERT INTO jobs (id, type, state) VALUES ($1, 'reindex', 'RUNNING')", w.job)
}

func (w *world) ends(t *testing.T, state string) {
	w.Exec(t, "UPDATE jobs SET state = $2 WHERE id = $1", w.job, state)
}

func (w *world) keeper(t *testing.T) *keeper.Keeper {
	return keeper.New(keeper.Config{Alias: w.alias}, keeper.Deps{Logger: kafkatest.Logger(t), Pool: w.Pool, Elasticsearch: w.es})
}

func (w *world) index(t *testing.T) elastic.IndexID {
	t.Helper()
	index, there, err := elastic.BehindAlias(t.Context(), w.es, w.alias)
	require.NoError(t, err)
	require.True(t, there)
	return index
}

// run is an attempt at the job; enter is told the phases.
func (w *world) run(ctx context.Context, t *testing.T, es elastictransport.Interface, enter func(ctx context.Context, phase string)) (*rebuild.Result, error) {
	t.Helper()
	r := rebuild.New(rebuild.Config{Alias: w.alias, Page: 200, Poll: 10 * time.Millisecond, MinKeep: time.Millisecond, Patience: 10 * time.Second, Enter: enter},
		rebuild.Deps{Logger: kafkatest.Logger(t), Pool: w.Pool, Elasticsearch: es})
	return r.Run(ctx, w.job, w.checkpoint, func(ctx context.Context, doing string, _, _ int64, checkpoint any) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.doing = append(w.doing, doing)
		raw, err := json.Marshal(checkpoint)
		w.checkpoint = raw
		return err
	})
}

func (w *world) rebuild(t *testing.T, enter func(ctx context.Context, phase string)) *rebuild.Result {
	t.Helper()
	result, err := w.run(t.Context(), t, w.es, enter)
	require.NoError(t, err)
	return result
}

// swapped asks for everything that is so after a rebuild.
func (w *world) swapped(t *testing.T) {
	t.Helper()
	require.NotEqual(t, w.old, w.index(t))
	w.settled(t)
}

// settled: the index behind the alias is right, the only one, and nothing of a rebuild is left.
func (w *world) settled(t *testing.T) {
	t.Helper()
	now := w.index(t)
	indexingtest.Refresh(t, w.es, w.alias)
	report, err := consistency.New(w.Pool, w.es, w.alias).Index(t.Context(), consistency.Options{Deep: true, Settle: 50 * time.Millisecond, Patience: 10 * time.Second})
	require.NoError(t, err)
	require.True(t, report.Clean(), "%+v", report)
	require.Equal(t, []string{now.Name}, w.indices(t))
	var rows, filled int
	require.NoError(t, w.Pool.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM search_rebuilds), (SELECT count(*) FROM search_indices WHERE filled_at IS NOT NULL AND index_uuid = $1)",
		now.UUID).Scan(&rows, &filled))
	require.Zero(t, rows)
	require.Equal(t, 1, filled, "the keeper knows that it is filled")
	state, err := elastic.ObserveIndex(t.Context(), w.es, w.alias)
	require.NoError(t, err)
	settings := state.Indices[now.Name]
	require.Equal(t, []any{"200ms", "0", "1h"}, []any{settings["index.refresh_interval"], settings["index.number_of_replicas"], settings["index.gc_deletes"]})
}

func (w *world) indices(t *testing.T) []string {
	t.Helper()
	var found map[string]any
	raw := put(t, w.es, http.MethodGet, "/"+w.alias+"-*?filter_path=*.aliases", nil)
	require.NoError(t, json.Unmarshal([]byte(raw), &found))
	var names []string
	for name := range found {
		names = append(names, name)
	}
	return names
}

func put(t *testing.T, es elastictransport.Interface, method, path string, body any) string {
	t.Helper()
	raw, err := json.Marshal(body)
	require.NoError(t, err)
	if body == nil {
		raw = nil
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, path, bytes.NewReader(raw))
	require.NoError(t, err)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := es.Perform(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	var answer json.RawMessage
	require.NoError(t, json.NewDecoder(res.Body).Decode(&answer))
	require.Less(t, res.StatusCode, 300, "%s", answer)
	return string(answer)
}

// change does to some items what can be done to items, by writers of this version.
func (w *world) change(t *testing.T, sync func([]indexing.Target)) {
	t.Helper()
	var ids []uuid.UUID
	rows, err := w.Pool.Query(t.Context(), "SELECT id FROM items WHERE deleted_at IS NULL ORDER BY random() LIMIT 9")
	require.NoError(t, err)
	for rows.Next() {
		var id uuid.UUID
		require.NoError(t, rows.Scan(&id))
		ids = append(ids, id)
	}
	require.NoError(t, rows.Err())
	var targets []indexing.Target
	for i, id := range ids {
		if i%3 == 0 {
			w.Delete(t, id)
		} else {
			w.Update(t, id, "changed")
		}
		targets = append(targets, indexing.Target{ItemID: id, Version: 1})
	}
	id := w.Item(t, w.collection, "new", "")
	sync(append(targets, indexing.Target{ItemID: id, Version: 1}))
}

func (w *world) sync(t *testing.T) func([]indexing.Target) {
	return func(targets []indexing.Target) {
		refused, err := w.items.Sync(context.WithoutCancel(t.Context()), targets)
		require.NoError(t, err)
		require.Empty(t, refused)
	}
}

func TestARebuildSwapsWhatIsSearched(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var entered []string
	result := w.rebuild(t, func(_ context.Context, phase string) {
		entered = append(entered, phase)
		w.change(t, w.sync(t))
	})
	require.Equal(t, phases, entered)
	require.Equal(t, w.old.Name, result.OldIndex)
	require.Equal(t, w.index(t).Name, result.Index)
	require.GreaterOrEqual(t, result.Items, int64(many-10))
	w.swapped(t)
	require.NoError(t, w.keeper(t).Round(t.Context()))
	w.swapped(t)
}

// TestAWriterThatKnowsTheAliasOnly, as a former version of Atlas does, loses nothing to a rebuild.
func TestAWriterThatKnowsTheAliasOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bulk := elastic.NewBulkWriter(w.es, w.alias, 0)
	former := func(targets []indexing.Target) {
		ctx := context.WithoutCancel(t.Context())
		var ids []uuid.UUID
		for _, target := range targets {
			ids = append(ids, target.ItemID)
		}
		require.NoError(t, w.items.Documents(ctx, ids, func(documents []indexing.Document) error {
			live := map[uuid.UUID]indexing.Document{}
			for _, d := range documents {
				live[d.ID] = d
			}
			var actions []elastic.BulkAction
			for _, id := range ids {
				d, there := live[id]
				action := elastic.BulkAction{ID: id.String(), Version: 2, VersionType: elastic.VersionExternalGTE}
				if there {
					raw, err := d.MarshalJSON()
					require.NoError(t, err)
					action = elastic.BulkAction{ID: id.String(), Version: d.Version, VersionType: elastic.VersionExternal, Document: raw}
				} else {
					require.NoError(t, w.Pool.QueryRow(ctx, "SELECT version FROM items WHERE id = $1", id).Scan(&action.Version))
				}
				actions = append(actions, action)
			}
			_, err := bulk.Write(ctx, actions)
			return err
		}))
		w.Exec(t, `INSERT INTO item_index_state (item_id, indexed_version) SELECT id, version FROM items WHERE id = ANY ($1)
			ON CONFLICT (item_id) DO UPDATE SET indexed_version = excluded.indexed_version`, ids)
	}
	w.rebuild(t, func(context.Context, string) {
		w.change(t, former)
	})
	w.swapped(t)
}

func TestARebuildGoesOnAfterAKillInEachPhase(t *testing.T) {
	t.Parallel()
	for _, phase := range phases {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ctx, kill := context.WithCancel(t.Context())
			defer kill()
			_, err := w.run(ctx, t, w.es, func(_ context.Context, now string) {
				if now == phase {
					kill()
				}
			})
			require.ErrorIs(t, err, context.Canceled)
			w.change(t, w.sync(t))
			require.NoError(t, w.keeper(t).Round(t.Context()), "the keeper leaves it alone: its job goes on")
			names := w.indices(t)
			w.rebuild(t, nil)
			if phase != "create" && phase != "final" && phase != "retire" {
				require.Contains(t, names, w.index(t).Name, "the index was not made again")
			}
			w.swapped(t)
		})
	}
}

func TestACancelledRebuildIsUndoneOrFinished(t *testing.T) {
	t.Parallel()
	for _, phase := range phases {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, err := w.run(ctx, t, w.es, func(_ context.Context, now string) {
				if now == phase {
					cancel()
				}
			})
			require.ErrorIs(t, err, context.Canceled)
			w.change(t, w.sync(t))
			w.ends(t, "CANCELLED")
			require.Eventually(t, func() bool {
				require.NoError(t, w.keeper(t).Round(t.Context()))
				return len(w.indices(t)) == 1
			}, patience, 50*time.Millisecond)
			require.NoError(t, w.keeper(t).Round(t.Context()))
			if phase == "final" || phase == "retire" {
				w.swapped(t)
				return
			}
			require.Equal(t, w.old, w.index(t))
			w.change(t, w.sync(t))
			w.settled(t)
			w.enqueue(t)
			w.rebuild(t, nil)
			w.swapped(t)
		})
	}
}

func TestOneRebuildAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.job
	w.rebuild(t, func(ctx context.Context, phase string) {
		w.job = uuid.Must(uuid.NewV7())
		defer func() { w.job = first }()
		_, err := w.run(ctx, t, w.es, nil)
		require.ErrorIs(t, err, rebuild.ErrBusy, phase)
		require.ErrorContains(t, err, first.String())
	})
	w.swapped(t)
}

// TestAZombieDoesNoHarm: a worker that lost its lease goes on beside the one that has it, step by step.
func TestAZombieDoesNoHarm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var work sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		zombie := *w
		work.Go(func() {
			_, errs[i] = zombie.run(t.Context(), t, w.es, func(context.Context, string) { w.change(t, w.sync(t)) })
		})
	}
	work.Wait()
	require.True(t, errs[0] == nil || errs[1] == nil, "%v", errs)
	w.swapped(t)
}

// TestAZombieForgetsNoIndex: it read the row before the other one swapped, and looks at the alias after that.
func TestAZombieForgetsNoIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	q := db.New(w.Pool)
	move := db.MoveSearchRebuildParams{State: "swapping", Alias: w.alias, IndexName: "new", FromStates: []string{"building", "swapping"}}
	w.Exec(t, "INSERT INTO search_rebuilds (alias, job_id, index_name, target, state) VALUES ($1, $2, 'new', 'new-building', 'building')", w.alias, w.job)
	for _, old := range []string{w.old.Name, ""} {
		move.OldIndex = old
		moved, err := q.MoveSearchRebuild(t.Context(), move)
		require.NoError(t, err)
		require.EqualValues(t, 1, moved)
	}
	row, err := q.SearchRebuild(t.Context(), w.alias)
	require.NoError(t, err)
	require.Equal(t, w.old.Name, row.OldIndex)
}

func TestARebuildOutlivesTheLossOfAnIndex(t *testing.T) {
	t.Parallel()
	for _, phase := range []string{"backfill", "catch up", "verify", "swap"} {
		t.Run("searched, "+phase, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			once := sync.OnceFunc(func() {
				indexingtest.DropIndices(t, w.es, w.alias)
				if phase != "swap" {
					require.Eventually(t, func() bool { return w.keeper(t).Round(t.Context()) == nil }, patience, 50*time.Millisecond)
					require.NotContains(t, w.target(t), w.index(t).Name, "a new one takes its place, not the half of one")
				}
			})
			w.rebuild(t, func(_ context.Context, now string) {
				if now == phase {
					once()
				}
			})
			w.swapped(t)
		})
		t.Run("built, "+phase, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var lost string
			once := sync.OnceFunc(func() {
				lost = strings.TrimSuffix(w.target(t), "-building")
				put(t, w.es, http.MethodDelete, "/"+lost, nil)
				w.change(t, w.sync(t)) // nobody is held up
			})
			w.rebuild(t, func(_ context.Context, now string) {
				if now == phase {
					once()
				}
			})
			require.NotEmpty(t, lost)
			w.swapped(t)
			require.Equal(t, 1, len(w.indices(t)))
		})
	}
}

func (w *world) target(t *testing.T) (target string) {
	t.Helper()
	require.NoError(t, w.Pool.QueryRow(t.Context(), "SELECT target FROM search_rebuilds").Scan(&target))
	return target
}

// outage lets nothing through while it lasts.
type outage struct {
	es elastictransport.Interface
	mu sync.Mutex
	n  int
}

var errAway = errors.New("connection refused")

func (o *outage) Perform(r *http.Request) (*http.Response, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.n > 0 {
		o.n--
		return nil, errAway
	}
	return o.es.Perform(r)
}

func TestARebuildWaitsForElasticsearch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	away := &outage{es: w.es}
	_, err := w.run(t.Context(), t, away, func(context.Context, string) {
		away.mu.Lock()
		defer away.mu.Unlock()
		away.n = 5
	})
	require.NoError(t, err)
	w.swapped(t)
}

// TestANameThatIsTakenIsWaitedOut: names tell seconds, and another index of the same definition may have been made in this one.
func TestANameThatIsTakenIsWaitedOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan, err := elastic.ReadBlueprint(t.Context(), w.es, w.alias)
	require.NoError(t, err)
	began := time.Now()
	for s := range 3 {
		name := plan.IndexName(w.alias, began.Add(time.Duration(s)*time.Second))
		put(t, w.es, http.MethodPut, "/"+name, nil)
		t.Cleanup(func() { _, _ = w.es.Indices.Delete([]string{name}) })
	}
	w.rebuild(t, nil)
	require.NotEqual(t, w.old, w.index(t))
}

func TestItemsThatTheNewIndexRefusesStayFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	def, err := elastic.Definition(elastic.Params{RefreshInterval: 200 * time.Millisecond})
	require.NoError(t, err)
	def.Mappings["properties"].(map[string]any)["title"] = map[string]any{"type": "long"}
	put(t, w.es, http.MethodPut, "/_index_template/"+elastic.TemplateName(w.alias), def.Template(w.alias))
	_, err = w.run(t.Context(), t, w.es, nil)
	require.ErrorIs(t, err, rebuild.ErrRefused)
	require.Equal(t, w.old, w.index(t))
	w.settled(t)
}

// TestAnItemThatBothIndicesRefuseIsCountedOnce though it changed a moment ago, so that every pass sends it again, and all items are sent
// once more.
func TestAnItemThatBothIndicesRefuseIsCountedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	def, err := elastic.Definition(elastic.Params{RefreshInterval: 200 * time.Millisecond})
	require.NoError(t, err)
	def.Mappings["properties"].(map[string]any)["source_url"] = map[string]any{"type": "long"}
	put(t, w.es, http.MethodPut, "/_index_template/"+elastic.TemplateName(w.alias), def.Template(w.alias))
	w.rebuild(t, nil)
	w.ends(t, "SUCCEEDED")
	id := w.Item(t, w.collection, "refused", "")
	w.Exec(t, "UPDATE items SET source_url = 'https://example.com' WHERE id = $1", id)
	refused, err := w.items.Sync(t.Context(), []indexing.Target{{ItemID: id, Version: 1}})
	require.NoError(t, err)
	require.Len(t, refused, 1)

	w.enqueue(t)
	killed, kill := context.WithCancel(t.Context())
	_, err = w.run(killed, t, w.es, func(_ context.Context, phase string) {
		if phase == "catch up" {
			kill()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	strays := func(method string, body any) { // more than may be on their way
		var target string
		require.NoError(t, w.Pool.QueryRow(t.Context(), "SELECT target FROM search_rebuilds").Scan(&target))
		for n := range 9 {
			put(t, w.es, method, "/"+target+"/_doc/stray-"+strconv.Itoa(n)+"?refresh=true", body)
		}
	}
	var backfills int
	result := w.rebuild(t, func(_ context.Context, phase string) {
		switch {
		case phase == "verify" && backfills == 0:
			strays(http.MethodPut, map[string]any{"title": "nobody's"})
		case phase == "backfill":
			backfills++
			strays(http.MethodDelete, nil)
		}
	})
	require.Equal(t, 1, backfills)
	require.EqualValues(t, 1, result.Refused)
}
