package audit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/auditchain"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/services/audit"
)

// What was pruned is not written again: by a replay of the topic, of a part of it, or of a topic that was made anew with other offsets and partitions.
func TestPrunedEventsDoNotComeBack(t *testing.T) {
	t.Parallel()
	pool, folder := pgtest.New(t), t.TempDir()
	w := audit.NewWriter(pool)
	var batch, moved []*sarama.ConsumerMessage
	for i := range 40 {
		e := envelope(t, fmt.Sprintf(`{"i":%d}`, i))
		batch = append(batch, message(t, 0, int64(i), e))
		moved = append(moved, message(t, 3, int64(1000-i), e))
	}
	for i := 0; i < 30; i += 10 {
		require.Empty(t, handle(t, w, batch[i:i+10]...))
	}
	segments, err := auditchain.Export(t.Context(), pool, auditchain.ExportOptions{Folder: folder, Before: time.Now().Add(time.Hour), SegmentRows: 12})
	require.NoError(t, err)
	require.Len(t, segments, 3)
	for n := range 3 {
		if n > 0 { // none, one, all segments are gone
			_, err = pool.Exec(t.Context(), "SELECT audit_prune_segment(0, $1)", segments[n-1].FirstPosition)
			require.NoError(t, err)
		}
		for range 2 { // a writer that has seen a replay, and one that has not
			handle(t, w, batch[:30]...)
			handle(t, audit.NewWriter(pool), moved[:30]...)
			handle(t, audit.NewWriter(pool), batch[5:6]...)
		}
		require.Equal(t, 30-12*n, verify(t, pool))
	}
	// The old and the new together.
	handle(t, audit.NewWriter(pool), batch...)
	require.Equal(t, 10+6, verify(t, pool))
	report, err := auditchain.Verify(t.Context(), pool, auditchain.VerifyOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 24, report.Partitions[0].PrunedThrough)
	require.EqualValues(t, 40, report.Partitions[0].LastPosition)
}

// Writers go on while segments are pruned.
func TestWritersGoOnWhileRowsArePruned(t *testing.T) {
	t.Parallel()
	pool, folder := pgtest.New(t), t.TempDir()
	w := audit.NewWriter(pool)
	write := func(from, to int) {
		for i := from; i < to; i += 10 {
			var batch []*sarama.ConsumerMessage
			for k := i; k < i+10; k++ {
				batch = append(batch, message(t, 0, int64(k), envelope(t, `{}`)))
			}
			handle(t, w, batch...)
		}
	}
	write(0, 400)
	done := make(chan error, 1)
	go func() {
		_, err := auditchain.Export(t.Context(), pool, auditchain.ExportOptions{Folder: folder, Before: time.Now(), SegmentRows: 50})
		if err == nil {
			_, err = auditchain.Prune(t.Context(), pool, auditchain.PruneOptions{Folder: folder})
		}
		done <- err
	}()
	write(400, 800)
	require.NoError(t, <-done)
	require.LessOrEqual(t, verify(t, pool), 400)
	report, err := auditchain.VerifyArchive(folder, auditchain.VerifyOptions{})
	require.NoError(t, err)
	require.Empty(t, report.Findings)
	require.GreaterOrEqual(t, report.Rows, int64(400))
}
