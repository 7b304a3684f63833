package audit_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/auditchain"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/services/audit"
)

// A trail that was emptied is not written on where its heads are still there; with what docs/operations.md says to clear, a replay gives a whole chain
// again, after the segments that were pruned.
func TestALostTrailIsWrittenAgain(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(doc), "### A trail that was lost")
	require.True(t, found)
	_, block, _ := strings.Cut(section, "```sql\n")
	statements, _, _ := strings.Cut(block, "```")
	require.Contains(t, statements, "TRUNCATE")

	for _, pruned := range []int{0, 20} {
		pool, folder := pgtest.New(t), t.TempDir()
		var batch []*sarama.ConsumerMessage
		for i := range 50 {
			batch = append(batch, message(t, int32(i%2), int64(i), envelope(t, fmt.Sprintf(`{"i":%d}`, i))))
		}
		write := func() {
			for p := range int32(2) {
				var own []*sarama.ConsumerMessage
				for _, m := range batch {
					if m.Partition == p {
						own = append(own, m)
					}
				}
				require.Empty(t, handle(t, audit.NewWriter(pool), own...))
			}
		}
		require.NoError(t, auditchain.Rebuildable(t.Context(), pool), "a trail that never was")
		write()
		require.NoError(t, auditchain.Rebuildable(t.Context(), pool), "a trail that is whole")
		if pruned > 0 {
			_, err := auditchain.Export(t.Context(), pool, auditchain.ExportOptions{Folder: folder, Before: time.Now().Add(time.Hour), SegmentRows: 10})
			require.NoError(t, err)
			for p := range 2 {
				_, err = pool.Exec(t.Context(), "SELECT audit_prune_segment($1, 1)", p)
				require.NoError(t, err)
			}
		}
		_, err = pool.Exec(t.Context(), "BEGIN; SET LOCAL session_replication_role = replica; TRUNCATE audit_events; COMMIT")
		require.NoError(t, err)
		require.ErrorContains(t, auditchain.Rebuildable(t.Context(), pool), "partitions [0 1]")

		_, err = pool.Exec(t.Context(), statements)
		require.NoError(t, err)
		require.NoError(t, auditchain.Rebuildable(t.Context(), pool))
		write()
		report, err := auditchain.Verify(t.Context(), pool, auditchain.VerifyOptions{})
		require.NoError(t, err)
		require.Empty(t, report.Findings)
		require.EqualValues(t, 50-pruned, report.Rows)
	}
}
