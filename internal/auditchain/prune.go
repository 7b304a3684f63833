package auditchain

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// PruneOptions set up Prune.
type PruneOptions struct {
	// Folder has the exported files: each is read and compared before its rows go. Empty: what the database has recorded of the export is
	// believed.
	Folder string
	// Before keeps segments with a row that was recorded then or later; zero prunes all that was exported.
	Before time.Time
	Done   func(Segment)
}

// Prune removes the rows of exported segments, oldest first, each in one transaction. Nobody waits for it: the rows that go are not written any
// more. It can be interrupted and repeated.
func Prune(ctx context.Context, pool *pgxpool.Pool, o PruneOptions) ([]Segment, error) {
	var out []Segment
	err := alone(ctx, pool, func(conn *pgxpool.Conn) error {
		q := db.New(conn)
		partitions, err := q.AuditPartitions(ctx)
		if err != nil {
			return fmt.Errorf("list the partitions: %w", err)
		}
		for _, partition := range partitions {
			segments, err := q.ListAuditSegments(ctx, partition)
			if err != nil {
				return fmt.Errorf("list the segments of partition %d: %w", partition, err)
			}
			for i := range segments {
				row := &segments[i]
				if row.PrunedAt != nil {
					continue
				}
				if !o.Before.IsZero() && !row.LastRecordedAt.Before(o.Before) {
					break
				}
				s := Segment{
					Format: archiveFormat, Partition: partition, FirstPosition: row.FirstPosition, LastPosition: row.LastPosition,
					Rows: row.LastPosition - row.FirstPosition + 1, FirstPreviousHash: row.FirstPreviousHash, LastHash: row.LastHash,
					FirstRecordedAt: row.FirstRecordedAt, LastRecordedAt: row.LastRecordedAt,
					File: row.File, Bytes: row.FileBytes, SHA256: row.FileSha256,
				}
				if o.Folder != "" {
					if err := s.check(o.Folder); err != nil {
						return fmt.Errorf("nothing is removed without its export: %w", err)
					}
				}
				if _, err := q.PruneAuditSegment(ctx, partition, s.FirstPosition); err != nil {
					return fmt.Errorf("prune rows %d to %d of partition %d: %w", s.FirstPosition, s.LastPosition, partition, err)
				}
				out = append(out, s)
				if o.Done != nil {
					o.Done(s)
				}
			}
		}
		return nil
	})
	return out, err
}
