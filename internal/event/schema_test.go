package event_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
)

func golden(t *testing.T, eventType event.Type) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", string(eventType)+".json"))
	require.NoError(t, err)
	return b
}

func TestGoldenEventsAreValidAndRoundTrip(t *testing.T) {
	t.Parallel()
	for _, eventType := range event.Types() {
		t.Run(string(eventType), func(t *testing.T) {
			t.Parallel()
			b := golden(t, eventType)
			require.NoError(t, event.Validate(b))
			decoded, err := event.Decode(b)
			require.NoError(t, err)
			require.Equal(t, eventType, decoded.EventType)
			again, err := json.Marshal(decoded)
			require.NoError(t, err)
			require.JSONEq(t, string(b), string(again))
		})
	}
}

func TestEveryTypeHasASchemaForItsData(t *testing.T) {
	t.Parallel()
	for _, eventType := range event.Types() {
		t.Run(string(eventType), func(t *testing.T) {
			t.Parallel()
			var e map[string]any
			require.NoError(t, json.Unmarshal(golden(t, eventType), &e))
			e["data"] = map[string]any{}
			b, err := json.Marshal(e)
			require.NoError(t, err)
			require.ErrorContains(t, event.Validate(b), "validate data of "+string(eventType))
		})
	}
}

func TestWrittenEventsAreValid(t *testing.T) {
	t.Parallel()
	id, actor, previous, failure := uuid.New(), uuid.New(), "viewer", "broken"
	trace := "4bf92f3577b34da6a3ce929d0e0e4736"
	cases := map[event.Type]any{
		event.ItemCreated:           event.ItemData{ItemID: id, CollectionID: id, EntityVersion: 1},
		event.CollectionDeleted:     event.CollectionData{CollectionID: id, EntityVersion: 2, Name: "n"},
		event.MembershipRoleChanged: event.MembershipData{MembershipID: id, CollectionID: id, UserID: id, EntityVersion: 2, Role: "editor", PreviousRole: &previous},
		event.JobUpdated:            event.JobData{JobID: id, EntityVersion: 2, JobType: "reindex", State: "FAILED", Attempt: 1, Error: &failure},
	}
	for eventType, data := range cases {
		e, err := event.New(eventType, event.Entity{Type: event.EntityItem, ID: id}, event.Origin{ActorUserID: &actor, TraceID: &trace}, time.Now(), data)
		require.NoError(t, err)
		b, err := json.Marshal(e)
		require.NoError(t, err)
		require.NoError(t, event.Validate(b), eventType)
	}
}

func TestUnknownFieldsAndTypesAreTolerated(t *testing.T) {
	t.Parallel()
	var e map[string]any
	require.NoError(t, json.Unmarshal(golden(t, event.ItemCreated), &e))
	e["new_field"] = map[string]any{"a": 1}
	e["data"].(map[string]any)["new_field"] = "x"
	b, err := json.Marshal(e)
	require.NoError(t, err)
	require.NoError(t, event.Validate(b))
	_, err = event.Decode(b)
	require.NoError(t, err)

	e["event_type"] = "ItemFrobnicated"
	b, err = json.Marshal(e)
	require.NoError(t, err)
	require.NoError(t, event.Validate(b))
	decoded, err := event.Decode(b)
	require.NoError(t, err)
	require.Equal(t, event.Type("ItemFrobnicated"), decoded.EventType)
}

func TestBrokenEnvelopesAreRefused(t *testing.T) {
	t.Parallel()
	mutations := map[string]func(map[string]any){
		"no event_id":       func(e map[string]any) { delete(e, "event_id") },
		"no event_type":     func(e map[string]any) { delete(e, "event_type") },
		"future version":    func(e map[string]any) { e["version"] = 2 },
		"no occurred_at":    func(e map[string]any) { delete(e, "occurred_at") },
		"no entity":         func(e map[string]any) { delete(e, "entity") },
		"entity without id": func(e map[string]any) { delete(e["entity"].(map[string]any), "id") },
		"event_id no uuid":  func(e map[string]any) { e["event_id"] = "x" },
	}
	for name, mutate := range mutations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var e map[string]any
			require.NoError(t, json.Unmarshal(golden(t, event.ItemCreated), &e))
			mutate(e)
			b, err := json.Marshal(e)
			require.NoError(t, err)
			require.Error(t, event.Validate(b))
			_, err = event.Decode(b)
			require.Error(t, err)
		})
	}
	require.Error(t, event.Validate([]byte("{")))
}
