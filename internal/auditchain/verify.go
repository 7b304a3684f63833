package auditchain

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// progressRows is how often progress is told.
const progressRows = 100_000

// VerifyOptions set up Verify; a zero value elsewhere means all and none.
type VerifyOptions struct {
	Partition *int32
	Known     []Anchor // hashes from elsewhere, such as the heads of an earlier report that was kept outside the database
	Progress  func(partition int32, rows int64)
}

// Verify follows the chain of each partition in one snapshot of the database, so writers and pruning go on meanwhile, and in constant memory. It
// returns an error only when it could not look.
func Verify(ctx context.Context, pool *pgxpool.Pool, o VerifyOptions) (*Report, error) {
	report := &Report{Partitions: []PartitionReport{}, Findings: []Finding{}}
	err := pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		q := db.New(tx)
		partitions, err := q.AuditPartitions(ctx)
		if err != nil {
			return fmt.Errorf("list the partitions: %w", err)
		}
		for _, a := range o.Known {
			partitions = append(partitions, a.Partition)
		}
		slices.Sort(partitions)
		for _, partition := range slices.Compact(partitions) {
			if o.Partition != nil && *o.Partition != partition {
				continue
			}
			if err := verifyPartition(ctx, tx, partition, o, report); err != nil {
				return fmt.Errorf("verify partition %d: %w", partition, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("verify the audit trail: %w", err)
	}
	return report, nil
}

func verifyPartition(ctx context.Context, tx pgx.Tx, partition int32, o VerifyOptions, report *Report) error {
	part := PartitionReport{Partition: partition}
	note := func(f Finding) { report.add(&part, f) }
	start, anchors, err := recorded(ctx, tx, partition, note)
	if err != nil {
		return err
	}
	var head int64
	for _, a := range anchors {
		head = max(head, a.Position)
	}
	for _, a := range o.Known {
		if a.Partition == partition {
			anchors = append(anchors, a)
		}
	}
	f := newFollower(start, anchors, note)
	f.head = &head
	err = stream(ctx, tx, partition, func(row *Link) {
		f.next(row)
		if o.Progress != nil && f.rows%progressRows == 0 {
			o.Progress(partition, f.rows)
		}
	})
	if err != nil {
		return err
	}
	f.finish()
	part.Rows, part.PrunedThrough, part.LastPosition, part.LastHash = f.rows, start.Position, f.last.Position, f.last.Hash
	report.Rows += f.rows
	report.Partitions = append(report.Partitions, part)
	if o.Progress != nil {
		o.Progress(partition, f.rows)
	}
	return nil
}

// recorded returns where the chain begins, and the hashes that are recorded of it: the ends of segments and the head. The segments that were pruned
// have to join.
func recorded(ctx context.Context, tx pgx.Tx, partition int32, note func(Finding)) (start Anchor, anchors []Anchor, err error) {
	start = Anchor{Partition: partition, Hash: Genesis()}
	q := db.New(tx)
	segments, err := q.ListAuditSegments(ctx, partition)
	if err != nil {
		return start, nil, fmt.Errorf("list the segments: %w", err)
	}
	join := start
	for i := range segments {
		s := &segments[i]
		if s.FirstPosition != join.Position+1 || !slices.Equal(s.FirstPreviousHash, join.Hash) {
			note(Finding{Kind: Archive, First: s.FirstPosition, Last: s.LastPosition, Detail: "the recorded segment does not join the one before it"})
		}
		join = Anchor{Partition: partition, Position: s.LastPosition, Hash: s.LastHash, Source: "the segment that ends there"}
		if s.PrunedAt != nil {
			start = join
		} else {
			anchors = append(anchors, join)
		}
	}
	heads, err := q.ListAuditHeads(ctx, partition)
	if err != nil {
		return start, nil, fmt.Errorf("read the recorded head: %w", err)
	}
	for _, h := range heads {
		anchors = append(anchors, Anchor{Partition: partition, Position: h.ChainPosition, Hash: h.Hash, Source: "the recorded head"})
		if h.ChainPosition < start.Position || (h.ChainPosition == start.Position && !slices.Equal(h.Hash, start.Hash)) {
			note(Finding{
				Kind: Changed, First: h.ChainPosition, Last: h.ChainPosition,
				Detail: "the recorded head does not agree with the segments that were pruned",
			})
		}
	}
	if len(heads) == 0 && start.Position > 0 {
		note(Finding{Kind: Removed, First: start.Position, Last: start.Position, Detail: "the recorded head of the chain is missing"})
	}
	return start, anchors, nil
}

// stream calls each for every row of a partition in the order of the chain. The row is valid during the call, its slices longer.
func stream(ctx context.Context, tx pgx.Tx, partition int32, each func(*Link)) error {
	// By the index, which streams: to sort ten million rows would need their space on the server's disk.
	if _, err := tx.Exec(ctx, "SET LOCAL enable_sort = off"); err != nil {
		return fmt.Errorf("set up the reading: %w", err)
	}
	rows, err := tx.Query(ctx, "SELECT "+columns+" FROM audit_events WHERE kafka_partition = $1 ORDER BY chain_position", partition)
	if err != nil {
		return fmt.Errorf("read the chain: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var row Link
		if err := row.scan(rows); err != nil {
			return fmt.Errorf("read a row: %w", err)
		}
		each(&row)
	}
	return rows.Err()
}
