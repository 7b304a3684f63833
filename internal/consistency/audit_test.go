package consistency_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/consistency"
	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/portable"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/transfer"
)

// history writes entities together with their events: as the API, the relay and the audit consumer would.
type history struct {
	*indexingtest.Seed
	checker *consistency.Checker
	next    int64
}

func newHistory(t *testing.T, pool *pgxpool.Pool) *history {
	return &history{Seed: indexingtest.NewSeed(t, pool), checker: consistency.New(pool, nil, "")}
}

// told writes an event's outbox row, published, and its audit row.
func (h *history) told(t *testing.T, eventType event.Type, entity event.Entity, version int64, more map[string]any) uuid.UUID {
	t.Helper()
	data := map[string]any{"entity_version": version}
	for k, v := range more {
		data[k] = v
	}
	e, err := event.New(eventType, entity, event.Origin{}, time.Now(), data)
	require.NoError(t, err)
	payload, err := json.Marshal(e)
	require.NoError(t, err)
	h.Exec(t, "INSERT INTO outbox (event_id, aggregate_id, payload, published_at) VALUES ($1, $2, $3, now())", e.EventID, entity.ID, payload)
	h.next++
	h.Exec(t, `INSERT INTO audit_events (event_id, event_type, version, occurred_at, entity_type, entity_id, collection_id, data,
		kafka_partition, kafka_offset, chain_position, previous_hash, hash) VALUES ($1, $2, 1, $3, $4, $5, $6, $7, 0, $8, $8, '', '')`,
		e.EventID, e.EventType, e.OccurredAt, entity.Type, entity.ID, entity.CollectionID, e.Data, h.next)
	return e.EventID
}

func (h *history) audit(t *testing.T) *consistency.Report {
	t.Helper()
	report, err := h.checker.Audit(context.Background(), quick)
	require.NoError(t, err)
	return report
}

// forget takes rows out of the trail, which a trigger guards.
func (h *history) forget(t *testing.T, where string, args ...any) {
	t.Helper()
	h.Exec(t, "ALTER TABLE audit_events DISABLE TRIGGER USER")
	h.Exec(t, "DELETE FROM audit_events WHERE "+where, args...)
	h.Exec(t, "ALTER TABLE audit_events ENABLE TRIGGER USER")
}

func (h *history) collection(t *testing.T) uuid.UUID {
	t.Helper()
	id := h.Collection(t)
	h.told(t, event.CollectionCreated, collection(id), 1, nil)
	h.Exec(t, `INSERT INTO memberships (id, collection_id, user_id, role, created_at)
		SELECT $2, id, created_by, 'owner', created_at FROM collections WHERE id = $1`, id, uuid.Must(uuid.NewV7()))
	return id
}

func (h *history) item(t *testing.T, c uuid.UUID, versions int64) uuid.UUID {
	t.Helper()
	id := h.Item(t, c, "title", "")
	h.told(t, event.ItemCreated, entity(event.EntityItem, id, c), 1, nil)
	for v := int64(2); v <= versions; v++ {
		h.Update(t, id, "new title")
		h.told(t, event.ItemUpdated, entity(event.EntityItem, id, c), v, nil)
	}
	return id
}

func (h *history) member(t *testing.T, c uuid.UUID) uuid.UUID {
	t.Helper()
	user, id := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	h.Exec(t, "INSERT INTO users (id, email, password_hash) VALUES ($1, $2, 'x')", user, user.String()+"@example.com")
	h.Exec(t, "INSERT INTO memberships (id, collection_id, user_id, role) VALUES ($1, $2, $3, 'viewer')", id, c, user)
	h.told(t, event.MembershipAdded, entity(event.EntityMembership, id, c), 1, nil)
	return id
}

func (h *history) job(t *testing.T, c uuid.UUID, state string, attempt int) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	h.Exec(t, "INSERT INTO jobs (id, type, collection_id, state, version, attempt) VALUES ($1, 'reindex', $2, $3, 9, $4)", id, c, state, attempt)
	h.told(t, event.JobCreated, entity(event.EntityJob, id, c), 1, map[string]any{"state": "QUEUED", "attempt": 0})
	h.told(t, event.JobUpdated, entity(event.EntityJob, id, c), 2, map[string]any{"state": "RUNNING", "attempt": 1})
	h.told(t, event.JobUpdated, entity(event.EntityJob, id, c), 9, map[string]any{"state": "SUCCEEDED", "attempt": 1})
	return id
}

func entity(kind event.EntityType, id, collection uuid.UUID) event.Entity {
	return event.Entity{Type: kind, ID: id, CollectionID: &collection}
}

func collection(id uuid.UUID) event.Entity { return entity(event.EntityCollection, id, id) }

// TestWhatTheTrailTellsInFullIsClean has every way of an entity that looks like a gap and is none.
func TestWhatTheTrailTellsInFullIsClean(t *testing.T) {
	t.Parallel()
	h := newHistory(t, pgtest.New(t))
	c := h.collection(t)
	h.item(t, c, 3)
	h.job(t, c, "SUCCEEDED", 1)
	h.Exec(t, "DELETE FROM jobs WHERE id = $1", h.job(t, c, "SUCCEEDED", 1)) // kept long enough
	h.Exec(t, "UPDATE memberships SET role = 'editor', version = 2 WHERE id = $1", h.member(t, c))
	var member uuid.UUID
	require.NoError(t, h.Pool.QueryRow(context.Background(), "SELECT id FROM memberships WHERE version = 2").Scan(&member))
	h.told(t, event.MembershipRoleChanged, entity(event.EntityMembership, member, c), 2, nil)
	gone := h.member(t, c)
	h.Exec(t, "DELETE FROM memberships WHERE id = $1", gone)
	h.told(t, event.MembershipRemoved, entity(event.EntityMembership, gone, c), 2, nil)

	trashed := h.item(t, c, 1)
	h.Delete(t, trashed)
	h.told(t, event.ItemDeleted, entity(event.EntityItem, trashed, c), 2, nil)
	h.Exec(t, "UPDATE items SET version = 3 WHERE id = $1", trashed) // a tag of it was renamed
	h.told(t, event.ItemUpdated, entity(event.EntityItem, trashed, c), 3, nil)
	erased := uuid.Must(uuid.NewV7())
	h.told(t, event.ItemCreated, entity(event.EntityItem, erased, c), 1, nil)
	h.told(t, event.ItemDeleted, entity(event.EntityItem, erased, c), 2, nil)
	h.told(t, "SomethingNew", event.Entity{Type: "Gadget", ID: uuid.Must(uuid.NewV7())}, 1, nil)

	old := h.collection(t) // deleted and erased, with a membership that went along
	h.told(t, event.MembershipAdded, entity(event.EntityMembership, uuid.Must(uuid.NewV7()), old), 1, nil)
	h.Exec(t, "DELETE FROM memberships WHERE collection_id = $1", old)
	h.Exec(t, "DELETE FROM collections WHERE id = $1", old)
	h.told(t, event.CollectionDeleted, collection(old), 2, nil)

	report := h.audit(t)
	require.True(t, report.Clean(), "%+v", report)
	require.EqualValues(t, h.next, report.Checked.Events)
	require.Positive(t, report.Checked.Entities)
}

func TestAuditDifferencesAreFound(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		damage func(t *testing.T, h *history, c uuid.UUID) (kind consistency.Kind, id uuid.UUID)
	}{
		"an item's first row is gone": {func(t *testing.T, h *history, c uuid.UUID) (consistency.Kind, uuid.UUID) {
			id := h.item(t, c, 3)
			h.forget(t, "entity_id = $1 AND data ->> 'entity_version' = '1'", id)
			return consistency.AuditGap, id
		}},
		"a row in the middle is gone": {func(t *testing.T, h *history, c uuid.UUID) (consistency.Kind, uuid.UUID) {
			id := h.item(t, c, 3)
			h.forget(t, "entity_id = $1 AND data ->> 'entity_version' = '2'", id)
			return consistency.AuditGap, id
		}},
		"the newest row is gone": {func(t *testing.T, h *history, c uuid.UUID) (consistency.Kind, uuid.UUID) {
			id := h.item(t, c, 3)
			h.forget(t, "entity_id = $1 AND data ->> 'entity_version' = '3'", id)
			return consistency.AuditStale, id
		}},
		"all rows are gone": {func(t *testing.T, h *history, c uuid.UUID) (consistency.Kind, uuid.UUID) {
			id := h.member(t, c)
			h.forget(t, "entity_id = $1", id)
			return consistency.AuditStale, id
		}},
		"a write left no event": {func(t *testing.T, h *history, c uuid.UUID) (consistency.Kind, uuid.UUID) {
			h.Exec(t, "UPDATE collections SET version = 2 WHERE id = $1", c)
			return consistency.AuditStale, c
		}},
		"a refused write left an event": {func(t *testing.T, h *history, c uuid.UUID) (consistency.Kind, uuid.UUID) {
			id := h.item(t, c, 1)
			h.told(t, event.ItemUpdated, entity(event.EntityItem, id, c), 2, nil)
			return consistency.AuditExtra, id
		}},
		"an item that was never made": {func(t *testing.T, h *history, c uuid.UUID) (consistency.Kind, uuid.UUID) {
			id := uuid.Must(uuid.NewV7())
			h.told(t, event.ItemCreated, entity(event.EntityItem, id, c), 1, nil)
			return consistency.AuditExtra, id
		}},
		"a membership that is gone without a word": {func(t *testing.T, h *history, c uuid.UUID) (consistency.Kind, uuid.UUID) {
			id := h.member(t, c)
			h.Exec(t, "DELETE FROM memberships WHERE id = $1", id)
			return consistency.AuditExtra, id
		}},
		"two events of one version": {func(t *testing.T, h *history, c uuid.UUID) (consistency.Kind, uuid.UUID) {
			id := h.item(t, c, 2)
			h.told(t, event.ItemUpdated, entity(event.EntityItem, id, c), 2, nil)
			return consistency.AuditRepeat, id
		}},
		"a deletion of an item that never was": {func(t *testing.T, h *history, c uuid.UUID) (consistency.Kind, uuid.UUID) {
			id := uuid.Must(uuid.NewV7())
			h.told(t, event.ItemDeleted, entity(event.EntityItem, id, c), 7, nil)
			return consistency.AuditExtra, id
		}},
		"an event without a version": {func(t *testing.T, h *history, c uuid.UUID) (consistency.Kind, uuid.UUID) {
			id := h.item(t, c, 2)
			h.told(t, event.ItemUpdated, entity(event.EntityItem, id, c), 0, map[string]any{"entity_version": nil})
			return consistency.AuditExtra, id
		}},
		"what was restored from the trash is not told": {func(t *testing.T, h *history, c uuid.UUID) (consistency.Kind, uuid.UUID) {
			id := h.item(t, c, 1)
			h.told(t, event.ItemDeleted, entity(event.EntityItem, id, c), 2, nil)
			h.Exec(t, "UPDATE items SET version = 4 WHERE id = $1", id)
			h.told(t, event.ItemUpdated, entity(event.EntityItem, id, c), 4, nil)
			return consistency.AuditGap, id
		}},
		"a job's attempt is not told": {func(t *testing.T, h *history, c uuid.UUID) (consistency.Kind, uuid.UUID) {
			id := h.job(t, c, "SUCCEEDED", 1)
			h.forget(t, "entity_id = $1 AND data ->> 'state' = 'RUNNING'", id)
			return consistency.AuditGap, id
		}},
		"a job's end is not told": {func(t *testing.T, h *history, c uuid.UUID) (consistency.Kind, uuid.UUID) {
			id := h.job(t, c, "SUCCEEDED", 1)
			h.forget(t, "entity_id = $1 AND data ->> 'state' = 'SUCCEEDED'", id)
			return consistency.AuditStale, id
		}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHistory(t, pgtest.New(t))
			c := h.collection(t)
			h.item(t, c, 2)
			require.True(t, h.audit(t).Clean())
			kind, id := test.damage(t, h, c)
			h.Exec(t, "DELETE FROM outbox") // pruned: only the trail itself can tell
			require.Equal(t, map[consistency.Kind][]string{kind: {id.String()}}, found(h.audit(t)))
		})
	}
}

// prune has what was recorded until now leave the trail; the rows are forgotten beside it.
func (h *history) prune(t *testing.T) {
	t.Helper()
	h.Exec(t, "ALTER TABLE audit_segments DISABLE TRIGGER USER")
	h.Exec(t, `INSERT INTO audit_segments (kafka_partition, first_position, last_position, first_previous_hash, last_hash, first_recorded_at,
		last_recorded_at, file, file_bytes, file_sha256, pruned_at, first_event_id, last_event_id, event_ids)
		VALUES (7, 1, 3, '', '', now(), now(), 'f', 1, '', now(), $1, $1, ARRAY[$1::uuid])`, uuid.New())
}

// TestAnImportedItemIsAsOldAsItsImport, whatever it says of itself: what was pruned before can't have told of it.
func TestAnImportedItemIsAsOldAsItsImport(t *testing.T) {
	t.Parallel()
	h := newHistory(t, pgtest.New(t))
	c := h.collection(t)
	imported := func(title string) uuid.UUID {
		old := time.Date(2019, 1, 22, 10, 0, 0, 0, time.UTC)
		item, wrong := transfer.Check(portable.Item{Title: title, CreatedAt: old, UpdatedAt: old}, time.Now())
		require.Empty(t, wrong)
		require.NoError(t, pgx.BeginFunc(t.Context(), h.Pool, func(tx pgx.Tx) error {
			_, err := (&transfer.Importer{Collection: c, Author: h.User}).Write(t.Context(), db.New(tx), []transfer.Item{item}, time.Now())
			return err
		}))
		h.Exec(t, "DELETE FROM outbox")
		var id uuid.UUID
		require.NoError(t, h.Pool.QueryRow(t.Context(), "SELECT id FROM items WHERE title = $1", title).Scan(&id))
		return id
	}
	imported("pruned")
	h.prune(t)
	require.True(t, h.audit(t).Clean())

	lost, begun := imported("lost"), imported("begun")
	h.told(t, event.ItemCreated, entity(event.EntityItem, imported("told"), c), 1, nil)
	h.Update(t, begun, "new title")
	h.told(t, event.ItemUpdated, entity(event.EntityItem, begun, c), 2, nil)
	require.Equal(t, map[consistency.Kind][]string{consistency.AuditStale: {lost.String()}, consistency.AuditGap: {begun.String()}}, found(h.audit(t)))
}

// TestWhatWasPrunedIsNotMissing: whole segments leave the trail, oldest first.
func TestWhatWasPrunedIsNotMissing(t *testing.T) {
	t.Parallel()
	h := newHistory(t, pgtest.New(t))
	c := h.collection(t)
	old, changed := h.item(t, c, 1), h.item(t, c, 2)
	h.Exec(t, "DELETE FROM outbox")
	h.forget(t, "entity_id IN ($1, $2) OR (entity_id = $3 AND data ->> 'entity_version' = '1')", c, old, changed)
	require.False(t, h.audit(t).Clean())
	h.prune(t)
	report := h.audit(t)
	require.True(t, report.Clean(), "%+v", report)

	late := h.item(t, c, 2)
	h.Exec(t, "DELETE FROM outbox")
	h.forget(t, "entity_id = $1 AND data ->> 'entity_version' = '1'", late)
	require.Equal(t, map[consistency.Kind][]string{consistency.AuditGap: {late.String()}}, found(h.audit(t)))
}

func TestADeadLetterExplainsADifference(t *testing.T) {
	t.Parallel()
	h := newHistory(t, pgtest.New(t))
	id := h.item(t, h.collection(t), 1)
	h.Update(t, id, "too large")
	h.Exec(t, `INSERT INTO outbox_dead_letters (event_id, aggregate_id, payload, created_at, reason) VALUES ($1, $2, '{}', now(), 'too large')`, uuid.New(), id)
	require.Contains(t, h.audit(t).Differences[0].Examples[0].Detail, "dead letters")
}

// TestAPublishedEventNeedsItsAuditRow while the outbox keeps it.
func TestAPublishedEventNeedsItsAuditRow(t *testing.T) {
	t.Parallel()
	h := newHistory(t, pgtest.New(t))
	c := h.collection(t)
	id := h.item(t, c, 1)
	h.Delete(t, id)
	lost := h.told(t, event.ItemDeleted, entity(event.EntityItem, id, c), 2, nil)
	h.forget(t, "event_id = $1", lost)
	report := h.audit(t)
	require.Equal(t, map[consistency.Kind][]string{consistency.AuditMissing: {lost.String()}, consistency.AuditStale: {id.String()}}, found(report))
	require.Contains(t, report.Differences[0].Examples[0].Detail, "ItemDeleted of "+id.String())

	h.Exec(t, "UPDATE outbox SET published_at = NULL WHERE event_id = $1", lost)
	impatient := quick
	impatient.Patience = 300 * time.Millisecond
	report, err := h.checker.Audit(context.Background(), impatient)
	require.NoError(t, err)
	require.Empty(t, report.Differences, "not published yet: on its way")
	require.EqualValues(t, 1, report.Undecided)
}
