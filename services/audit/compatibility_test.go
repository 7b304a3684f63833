package audit_test

import (
	"testing"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/services/audit"
)

// TestEventsOfALaterReleaseAreInTheTrail gives the audit trail unknown fields, event types and entity types: it has them all, with their data as it came.
// A later envelope is a dead letter.
func TestEventsOfALaterReleaseAreInTheTrail(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	raw := func(offset int64, version, rest string) *sarama.ConsumerMessage {
		return &sarama.ConsumerMessage{Topic: "t", Partition: 0, Offset: offset, Value: []byte(`{"event_id":"` + uuid.NewString() + `","version":` + version +
			`,"occurred_at":"2026-01-22T10:00:00Z","actor_user_id":null,"trace_id":null,"new_field":{"a":1},` + rest + `}`)}
	}
	entity := `"entity":{"type":"Comment","id":"` + uuid.NewString() + `","new_field":1}`
	poison := handle(t, audit.NewWriter(pool),
		raw(0, "1", `"event_type":"CommentCreated",`+entity+`,"data":{"comment":[1,2]}`),
		raw(1, "1", `"event_type":"ItemUpdated",`+entity+`,"data":{"new_field":true}`),
		raw(2, "2", `"event_type":"ItemUpdated",`+entity+`,"data":{}`))
	require.Len(t, poison, 1)
	require.EqualValues(t, 2, poison[0].Message.Offset)
	require.Contains(t, poison[0].Reason, "version 2 is not supported, want 1")
	var types, data string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT string_agg(entity_type || ' ' || event_type, ', ' ORDER BY chain_position),
		string_agg(data::text, ', ' ORDER BY chain_position) FROM audit_events`).Scan(&types, &data))
	require.Equal(t, "Comment CommentCreated, Comment ItemUpdated", types)
	require.Equal(t, `{"comment": [1, 2]}, {"new_field": true}`, data)
}
