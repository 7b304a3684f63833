package event_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
)

func TestOccurredAtIsReadFromAnyEvent(t *testing.T) {
	t.Parallel()
	for _, eventType := range event.Types() {
		want, err := event.Decode(golden(t, eventType))
		require.NoError(t, err)
		require.True(t, want.OccurredAt.Equal(event.OccurredAt(golden(t, eventType))), eventType)
		var compact bytes.Buffer
		require.NoError(t, json.Compact(&compact, golden(t, eventType)))
		require.True(t, want.OccurredAt.Equal(event.OccurredAt(compact.Bytes())), eventType)
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	written, err := event.New(event.ItemCreated, event.Entity{Type: event.EntityItem, ID: uuid.New()}, event.Origin{}, now, event.ItemData{})
	require.NoError(t, err)
	b, err := json.Marshal(written)
	require.NoError(t, err)
	require.Equal(t, now, event.OccurredAt(b))
	for _, broken := range []string{``, `{`, `no json`, `{"occurred_at":"soon"}`, `{"occurred_at":"2026`, `{"data":{}}`} {
		require.Zero(t, event.OccurredAt([]byte(broken)), broken)
	}
}
