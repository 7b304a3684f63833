package auditchain_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/auditchain"
)

func TestHashCoversEveryField(t *testing.T) {
	t.Parallel()
	id, text := uuid.New(), "x"
	base := auditchain.Row{OccurredAt: time.Unix(1, 0), RecordedAt: time.Unix(2, 0)}
	changes := map[string]func(*auditchain.Row){
		"event_id":      func(r *auditchain.Row) { r.EventID = id },
		"event_type":    func(r *auditchain.Row) { r.EventType = text },
		"version":       func(r *auditchain.Row) { r.Version = 1 },
		"occurred_at":   func(r *auditchain.Row) { r.OccurredAt = time.Unix(3, 0) },
		"actor":         func(r *auditchain.Row) { r.ActorUserID = &id },
		"nil actor":     func(r *auditchain.Row) { r.ActorUserID = &uuid.Nil },
		"traceparent":   func(r *auditchain.Row) { r.Traceparent = &text },
		"trace_id":      func(r *auditchain.Row) { r.TraceID = &text },
		"entity_type":   func(r *auditchain.Row) { r.EntityType = text },
		"entity_id":     func(r *auditchain.Row) { r.EntityID = id },
		"collection_id": func(r *auditchain.Row) { r.CollectionID = &id },
		"data":          func(r *auditchain.Row) { r.Data = text },
		"partition":     func(r *auditchain.Row) { r.Partition = 1 },
		"offset":        func(r *auditchain.Row) { r.Offset = 1 },
		"position":      func(r *auditchain.Row) { r.Position = 1 },
		"recorded_at":   func(r *auditchain.Row) { r.RecordedAt = time.Unix(3, 0) },
	}
	seen := map[string]string{string(base.Hash(auditchain.Genesis())): "base"}
	for name, change := range changes {
		row := base
		change(&row)
		hash := string(row.Hash(auditchain.Genesis()))
		require.NotContains(t, seen, hash, name)
		seen[hash] = name
	}
	require.NotEqual(t, base.Hash(auditchain.Genesis()), base.Hash([]byte("other")))
}
