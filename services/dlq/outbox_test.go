package dlq_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/services/dlq"
)

func TestLettersOfTheOutboxGoBackToIt(t *testing.T) {
	t.Parallel()
	url := pgtest.NewURL(t)
	pool := pgtest.Open(t, url)
	cfg := dlq.OutboxConfig{Database: config.Database{URL: url}}
	var ids []uuid.UUID
	for i, reason := range []string{"too large", "invalid", "too large"} {
		id := uuid.Must(uuid.NewV7())
		ids = append(ids, id)
		_, err := pool.Exec(t.Context(), `INSERT INTO outbox_dead_letters (event_id, aggregate_id, payload, created_at, reason, failed_at)
			VALUES ($1, $1, '{"event_type":"ItemCreated"}', now(), $2, now() + make_interval(mins => $3))`, id, reason, i)
		require.NoError(t, err)
	}
	var out bytes.Buffer
	require.NoError(t, dlq.ListOutbox(t.Context(), cfg, dlq.OutboxFilter{}, dlq.ListOptions{Limit: 2, Now: time.Now}, &out))
	require.Contains(t, out.String(), ids[2].String())
	require.NotContains(t, out.String(), ids[0].String(), "the newest two")
	out.Reset()
	require.NoError(t, dlq.ShowOutbox(t.Context(), cfg, ids[1], &out))
	require.Contains(t, out.String(), `"reason": "invalid"`)
	require.ErrorContains(t, dlq.ShowOutbox(t.Context(), cfg, uuid.New(), &out), "no dead letter")

	large := dlq.OutboxFilter{Reason: "LARGE", Type: "ItemCreated"}
	replay := func(f dlq.OutboxFilter, dry bool) []string {
		result, err := dlq.ReplayOutbox(t.Context(), cfg, f, dlq.ReplayOptions{DryRun: dry}, &out)
		require.NoError(t, err)
		return result.Letters
	}
	require.Equal(t, []string{ids[0].String(), ids[2].String()}, replay(large, true))
	require.Len(t, replay(large, false), 2)
	require.Empty(t, replay(large, false))
	var waiting int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM outbox WHERE published_at IS NULL").Scan(&waiting))
	require.Equal(t, 2, waiting)
	_, err := dlq.ReplayOutbox(t.Context(), cfg, dlq.OutboxFilter{IDs: []uuid.UUID{ids[0]}}, dlq.ReplayOptions{}, &out)
	require.ErrorContains(t, err, "is not in the outbox")
}
