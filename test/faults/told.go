//go:build linux

package faults

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
)

// stored is what PostgreSQL has in the end.
type stored struct {
	items       map[string]storedItem
	collections map[string]storedCollection
	named       map[string][]string // ids of items and collections by title and name
}

type storedItem struct {
	ID, Home, Title, Tags, Moved string
	Bytes                        int
	Version                      int64
	Trashed, HomeDeleted         bool
}

type storedCollection struct {
	ID, Name string
	Version  int64
	Deleted  bool
	Tags     map[string]string // names by id
	Members  map[string]string // roles by user
}

func (v *verifier) load(ctx context.Context) stored {
	s := stored{items: map[string]storedItem{}, collections: map[string]storedCollection{}, named: map[string][]string{}}
	for _, i := range all[storedItem](ctx, v, `SELECT i.id::text, i.collection_id::text AS home, i.title, i.version, coalesce(i.metadata->>'moved', '') AS moved,
			octet_length(i.content) AS bytes, i.deleted_at IS NOT NULL AS trashed, c.deleted_at IS NOT NULL AS home_deleted,
			array_to_string(ARRAY(SELECT t.name FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id ORDER BY t.name COLLATE "C"), ',') AS tags
		FROM items i JOIN collections c ON c.id = i.collection_id`) {
		s.items[i.ID] = i
		s.named[i.Title] = append(s.named[i.Title], i.ID)
	}
	for _, c := range all[storedCollection](ctx, v, `SELECT c.id::text, c.name, c.version, c.deleted_at IS NOT NULL AS deleted,
			coalesce((SELECT jsonb_object_agg(t.id, t.name) FROM tags t WHERE t.collection_id = c.id), '{}') AS tags,
			coalesce((SELECT jsonb_object_agg(m.user_id, m.role) FROM memberships m WHERE m.collection_id = c.id), '{}') AS members
		FROM collections c`) {
		s.collections[c.ID] = c
		s.named[c.Name] = append(s.named[c.Name], c.ID)
	}
	return s
}

// state compares PostgreSQL with what the clients were told.
func (v *verifier) state(w *workload, s stored) {
	known := map[string]bool{}
	for _, c := range w.clients {
		for _, i := range c.allItems {
			if i.id = v.find(&i.entity, s.named); i.id != "" {
				known[i.id] = true
				v.item(i, s.items[i.id])
			}
		}
		for _, where := range c.allCollections {
			if where.id = v.find(&where.entity, s.named); where.id != "" {
				known[where.id] = true
				v.collection(c, where, s.collections[where.id])
			}
		}
	}
	for _, ids := range s.named {
		for _, id := range ids {
			if !known[id] {
				v.found.add(surplusEvent, "PostgreSQL has %+v%+v, which nobody made", s.items[id], s.collections[id])
			}
		}
	}
}

// find returns the id of an entity that nobody was told of, if it is there. It may be there once at most.
func (v *verifier) find(e *entity, named map[string][]string) string {
	if e.id != "" {
		return e.id
	}
	ids := named[e.name]
	switch {
	case len(ids) > 1:
		v.found.add(surplusEvent, "%q was made %d times", e.name, len(ids))
	case len(ids) == 0 && e.exists:
		v.found.add(lostState, "%q was acknowledged and is not there", e.name)
	}
	if len(ids) == 0 {
		return ""
	}
	return ids[0]
}

func (v *verifier) item(i *item, s storedItem) {
	trashed := i.trashed.allows(s.Trashed)
	if s.HomeDeleted { // then all its items are
		trashed = s.Trashed
	}
	tags := i.blurred || i.tags.allows(s.Tags)
	if s.ID == "" || s.Version < i.version || s.Bytes != i.bytes || !trashed || !tags || !i.title.allows(s.Title) || !i.home.allows(s.Home) ||
		!i.moved.allows(s.Moved) {
		v.found.add(lostState, "a client was told that an item is %+v; it is %+v", *i, s)
	}
}

func (v *verifier) collection(c *client, told *collection, s storedCollection) {
	other := c.accounts[(c.number+1)%(len(c.accounts)-1)].id
	wrong := s.ID == "" || s.Version < told.version || !told.title.allows(s.Name) || !told.deleted.allows(s.Deleted) || !told.member.allows(s.Members[other]) ||
		s.Members[c.accounts[c.number].id] != "owner" && other != c.accounts[c.number].id
	for id, name := range told.tags {
		wrong = wrong || !name.allows(s.Tags[id])
	}
	if wrong {
		v.found.add(lostState, "a client was told that a collection is %+v, with the tags %v; it is %+v", *told, told.names(), s)
	}
}

func (c *collection) names() (out []string) {
	for _, id := range sortedKeys(c.tags) {
		out = append(out, id+": "+c.tags[id].last+"?"+strings.Join(c.tags[id].perhaps, "?"))
	}
	return out
}

// row is what the audit trail has of an event.
type row struct {
	Event, Entity, EntityID string
	Trace                   *string
	Data                    json.RawMessage
}

func (r *row) is(e effect) bool {
	if r.Event != string(e.event) || e.of != nil && e.of.id != r.EntityID {
		return false
	}
	var data object
	if json.Unmarshal(r.Data, &data) != nil {
		return false
	}
	for name, value := range e.data {
		if data[name] != value {
			return false
		}
	}
	return true
}

// traces compares each write with the events that have its trace.
func (v *verifier) traces(ctx context.Context, w *workload) {
	perTrace := map[string][]row{}
	for _, r := range all[row](ctx, v, `SELECT event_type AS event, entity_type AS entity, entity_id::text, trace_id AS trace, data FROM audit_events
		ORDER BY kafka_partition, chain_position`) {
		if r.Trace == nil {
			continue // the platform itself did it
		}
		perTrace[*r.Trace] = append(perTrace[*r.Trace], r)
		if w.writes[*r.Trace] == nil {
			v.found.add(surplusEvent, "%s of %s has the trace %s, which no write had", r.Event, r.EntityID, *r.Trace)
		}
	}
	for _, trace := range sortedKeys(w.writes) {
		v.write(trace, w.writes[trace], perTrace[trace])
	}
}

func (v *verifier) write(trace string, sent *write, rows []row) {
	if sent.outcome == refused {
		if len(rows) > 0 {
			v.found.add(surplusEvent, "the refused write %s has %d events: %s", trace, len(rows), rows[0].Event)
		}
		return
	}
	missing := 0
	for _, e := range sent.must {
		if at := slices.IndexFunc(rows, func(r row) bool { return r.is(e) }); at >= 0 {
			rows = slices.Delete(rows, at, at+1)
		} else if missing++; sent.outcome == acknowledged {
			v.found.add(lostEvent, "the acknowledged write %s has no (other) %s %v", trace, e.event, e.data)
		}
	}
	if sent.outcome == unanswered && missing > 0 && missing < len(sent.must) {
		v.found.add(lostEvent, "the write %s, which was not answered, happened in part: %d of %d events are missing", trace, missing, len(sent.must))
	}
	for _, e := range sent.may {
		seen := map[string]bool{}
		rows = slices.DeleteFunc(rows, func(r row) bool {
			if !r.is(e) || seen[r.EntityID] || len(seen) > 0 && !e.many {
				return false
			}
			seen[r.EntityID] = true
			return true
		})
	}
	for _, r := range rows {
		if r.Event != string(event.JobUpdated) { // see jobs
			v.found.add(surplusEvent, "the write %s (%d: %s) has a %s of %s that it can't have, or once more", trace, sent.outcome, sent.kind, r.Event, r.EntityID)
		}
	}
}

// versions compares what there is with its audit rows: every version is one event.
func (v *verifier) versions(ctx context.Context) {
	for _, table := range []string{"items", "collections", "memberships"} {
		rows, err := v.db.Query(ctx, `SELECT i.id::text, i.version, coalesce(string_agg(a.event_type || ' ' || (a.data->>'entity_version'), ', ' ORDER BY a.occurred_at), 'none')
			FROM `+table+` i LEFT JOIN audit_events a ON a.entity_id = i.id AND a.entity_type = $1
			WHERE $1 <> 'Membership' OR i.version > 1 OR a.event_id IS NOT NULL -- the first owner's has no event of its own
			GROUP BY i.id HAVING count(DISTINCT (a.data->>'entity_version')::bigint) <> i.version OR count(a.event_id) <> i.version`,
			map[string]string{"items": "Item", "collections": "Collection", "memberships": "Membership"}[table])
		require.NoError(v.t.t, err)
		for rows.Next() {
			var id, events string
			var version int64
			require.NoError(v.t.t, rows.Scan(&id, &version, &events))
			v.found.add(lostEvent, "%s of %s has version %d, the audit trail has: %s", id, table, version, events)
		}
		require.NoError(v.t.t, rows.Err())
	}
}

// following are the states that a job can have after another.
var following = map[string][]string{
	"": {"QUEUED"}, "QUEUED": {"RUNNING", "CANCELLED"}, "RUNNING": {"QUEUED", "SUCCEEDED", "FAILED", "CANCELLED"}, "FAILED": {"QUEUED"}, "CANCELLED": {"QUEUED"},
}

// jobs compares each job with its events: every change of its state is one.
func (v *verifier) jobs(ctx context.Context, w *workload) {
	type job struct {
		ID, State, Reason           string
		Version                     int64
		Attempt, MaxAttempts, Ended int
		CollectionDeleted           bool
		EventTypes, States          []string
		Versions                    []int64
	}
	there := map[string]bool{}
	for _, j := range all[job](ctx, v, `SELECT j.id::text, j.state, j.version, j.attempt, j.max_attempts, coalesce(j.error, '') AS reason,
			jsonb_array_length(j.history) AS ended, coalesce(c.deleted_at IS NOT NULL, false) AS collection_deleted,
			coalesce(array_agg(a.event_type ORDER BY (a.data->>'entity_version')::bigint) FILTER (WHERE a.event_id IS NOT NULL), '{}')::text[] AS event_types,
			coalesce(array_agg(a.data->>'state' ORDER BY (a.data->>'entity_version')::bigint) FILTER (WHERE a.event_id IS NOT NULL), '{}')::text[] AS states,
			coalesce(array_agg((a.data->>'entity_version')::bigint ORDER BY (a.data->>'entity_version')::bigint) FILTER (WHERE a.event_id IS NOT NULL), '{}')::bigint[] AS versions
		FROM jobs j LEFT JOIN collections c ON c.id = j.collection_id LEFT JOIN audit_events a ON a.entity_id = j.id AND a.entity_type = 'Job'
		GROUP BY j.id, c.id`) {
		there[j.ID] = true
		last, running, right := "", 0, len(j.States) > 0 && j.Versions[len(j.Versions)-1] == j.Version && j.States[len(j.States)-1] == j.State
		for n, state := range j.States {
			right = right && slices.Contains(following[last], state) && (j.EventTypes[n] == string(event.JobCreated)) == (n == 0) && (n == 0 || j.Versions[n] > j.Versions[n-1])
			if last = state; state == "RUNNING" {
				running++
			}
		}
		if !right || j.Ended < 20 && running != j.Ended { // 20 is what the history keeps
			v.found.add(oddJob, "the events of a job don't tell how it went: %+v", j)
		}
		if j.State == "FAILED" && j.Attempt < j.MaxAttempts && !j.CollectionDeleted {
			v.found.add(oddJob, "a job failed: %+v", j)
		}
	}
	for _, c := range w.clients {
		for _, queued := range c.jobs {
			if !there[queued.id] {
				v.found.add(lostState, "a client was told that there is a job %s", queued.id)
			}
		}
	}
}

// all are the rows of a query.
func all[T any](ctx context.Context, v *verifier, query string) []T {
	rows, err := v.db.Query(ctx, query)
	require.NoError(v.t.t, err, query)
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[T])
	require.NoError(v.t.t, err, query)
	return out
}
