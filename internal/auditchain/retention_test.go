package auditchain

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
)

// row i of a test's chain was recorded at 2*i microseconds.
func recordedAt(i int64) time.Time { return time.UnixMicro(2 * i).UTC() }

func TestRowsLeaveAsWholeExportedSegments(t *testing.T) {
	t.Parallel()
	pool, folder := pgtest.New(t), t.TempDir()
	stored(t, pool, 0, 25)
	stored(t, pool, 1, 3)
	export := ExportOptions{Folder: folder, Before: recordedAt(20), SegmentRows: 8}
	segments, err := Export(t.Context(), pool, export)
	require.NoError(t, err)
	require.Len(t, segments, 4) // 8 + 8 + 4, and 3
	again, err := Export(t.Context(), pool, export)
	require.NoError(t, err)
	require.Empty(t, again)
	require.Empty(t, verified(t, pool).Findings)

	offline, err := VerifyArchive(folder, VerifyOptions{Known: verified(t, pool).Heads()})
	require.NoError(t, err)
	require.Empty(t, offline.Findings)
	require.EqualValues(t, 23, offline.Rows)

	// Nothing else may remove or change a row, not even of an exported segment.
	refused := func(statement string) {
		t.Helper()
		_, err := pool.Exec(t.Context(), statement)
		var pgErr *pgconn.PgError
		require.ErrorAs(t, err, &pgErr, statement)
		require.Equal(t, "42501", pgErr.Code, statement)
	}
	for _, statement := range []string{
		"DELETE FROM audit_events WHERE chain_position = 1", "UPDATE audit_events SET data = '{}'", "TRUNCATE audit_events",
		"UPDATE audit_segments SET file = 'x'", "DELETE FROM audit_segments", "TRUNCATE audit_segments",
		"UPDATE audit_segments SET last_position = 24, pruned_at = now(), event_ids = '{}'", "UPDATE audit_segments SET pruned_at = now()",
		"UPDATE audit_heads SET chain_position = 1", "DELETE FROM audit_heads", "TRUNCATE audit_heads",
		`INSERT INTO audit_segments (kafka_partition, first_position, last_position, first_previous_hash, last_hash, first_recorded_at,
			last_recorded_at, file, file_bytes, file_sha256) VALUES (0, 22, 25, '', '', now(), now(), '', 0, '')`,
	} {
		refused(statement)
	}

	pruned, err := Prune(t.Context(), pool, PruneOptions{Folder: folder, Before: recordedAt(16)})
	require.NoError(t, err)
	require.Len(t, pruned, 3, "the third segment of partition 0 has newer rows")
	r := verified(t, pool)
	require.Empty(t, r.Findings)
	require.EqualValues(t, 9, r.Rows)
	pruned, err = Prune(t.Context(), pool, PruneOptions{Folder: folder})
	require.NoError(t, err)
	require.Len(t, pruned, 1)
	pruned, err = Prune(t.Context(), pool, PruneOptions{Folder: folder})
	require.NoError(t, err)
	require.Empty(t, pruned)
	r = verified(t, pool, offline.Heads()...)
	require.Empty(t, r.Findings)
	require.EqualValues(t, 5, r.Rows)
	refused("DELETE FROM audit_events")

	// The rest is verified from the last hash of what was pruned.
	tamper(t, pool, "DELETE FROM audit_events WHERE chain_position = 21")
	require.Equal(t, []string{jsonOf(0, Removed, 21, 21)}, said(verified(t, pool)))
	_, err = Export(t.Context(), pool, ExportOptions{Folder: folder, Before: time.Now()})
	require.ErrorContains(t, err, "row 22 does not follow row 20", "what was tampered with is not exported")
}

func TestVerifyArchiveFindsWhatWasDoneToIt(t *testing.T) {
	t.Parallel()
	pool, folder := pgtest.New(t), t.TempDir()
	stored(t, pool, 0, 30)
	_, err := Export(t.Context(), pool, ExportOptions{Folder: folder, Before: time.Now(), SegmentRows: 10})
	require.NoError(t, err)
	second := filepath.Join(folder, segmentFile(0, 11))
	original, err := os.ReadFile(second)
	require.NoError(t, err)
	findings := func() (kinds []Kind) {
		t.Helper()
		r, err := VerifyArchive(folder, VerifyOptions{})
		require.NoError(t, err)
		for _, f := range r.Findings {
			kinds = append(kinds, f.Kind)
		}
		return kinds
	}
	require.Empty(t, findings())
	change := func(content string) {
		t.Helper()
		require.NoError(t, os.WriteFile(second, []byte(content), 0o600))
	}
	lines := strings.SplitAfter(string(original), "\n")
	change(strings.Replace(string(original), "ItemCreated", "ItemDeleted", 1))
	require.ElementsMatch(t, []Kind{Changed, Archive}, findings())
	_, err = Prune(t.Context(), pool, PruneOptions{Folder: folder})
	require.ErrorContains(t, err, "is not the file that was exported")
	require.EqualValues(t, 20, verified(t, pool).Rows, "the first segment is pruned, the others wait")
	change(strings.Join(append(lines[:3:3], lines[4:]...), ""))
	require.ElementsMatch(t, []Kind{Removed, Archive}, findings())
	change("{")
	require.Contains(t, findings(), Archive)
	require.NoError(t, os.Remove(second))
	require.ElementsMatch(t, []Kind{Removed, Archive}, findings())
	change(string(original))
	require.Empty(t, findings())
	_, err = Prune(t.Context(), pool, PruneOptions{Folder: folder})
	require.NoError(t, err)
	require.Zero(t, verified(t, pool).Rows)
}

// An export that was interrupted anywhere is done again, with the same files.
func TestExportCanBeInterrupted(t *testing.T) {
	t.Parallel()
	pool, folder := pgtest.New(t), t.TempDir()
	stored(t, pool, 0, 30)
	first := ExportOptions{Folder: folder, Before: recordedAt(15), SegmentRows: 10}
	want, err := Export(t.Context(), pool, first)
	require.NoError(t, err)
	// As if it had ended before it was recorded; and the next one has other limits.
	tamper(t, pool, "DELETE FROM audit_segments")
	require.NoError(t, os.Remove(filepath.Join(folder, want[1].File+manifestSuffix)))
	require.NoError(t, os.WriteFile(filepath.Join(folder, want[1].File+".partial"), []byte("half a l"), 0o600))
	got, err := Export(t.Context(), pool, ExportOptions{Folder: folder, Before: recordedAt(18), SegmentRows: 100})
	require.NoError(t, err)
	require.Equal(t, want[0], got[0], "what is in the folder stays")
	require.EqualValues(t, 18, got[1].LastPosition)
	r, err := VerifyArchive(folder, VerifyOptions{})
	require.NoError(t, err)
	require.Empty(t, r.Findings)
	require.EqualValues(t, 18, r.Rows)

	// Another database's archive is left alone.
	other := pgtest.New(t)
	stored(t, other, 0, 30)
	_, err = Export(t.Context(), other, first)
	require.ErrorContains(t, err, "is the folder another database's archive?")
	r, err = VerifyArchive(folder, VerifyOptions{})
	require.NoError(t, err)
	require.Empty(t, r.Findings)
}

func TestOneExportAtATime(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	stored(t, pool, 0, 3)
	_, err := Export(t.Context(), pool, ExportOptions{Folder: t.TempDir(), Before: time.Now(), Done: func(Segment) {
		_, err := Prune(t.Context(), pool, PruneOptions{})
		require.ErrorIs(t, err, ErrBusy)
	}})
	require.NoError(t, err)
}
