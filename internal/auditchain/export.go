package auditchain

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// DefaultSegmentRows is how many rows a segment has at most.
const DefaultSegmentRows = 50_000

// retentionLock is the first half of the advisory lock that an export or a pruning holds: "audr" in ASCII.
const retentionLock = 0x61756472

// ErrBusy means that another export or pruning is under way.
var ErrBusy = errors.New("another export or pruning of the audit trail is under way")

// ExportOptions set up Export. Folder and Before are required.
type ExportOptions struct {
	Folder      string
	Before      time.Time // rows that were recorded earlier are exported
	SegmentRows int64     // at most; default DefaultSegmentRows
	Done        func(Segment)
}

// Export writes the rows that were recorded before a time, and were not exported yet, as segments into a folder. A segment counts, and may be
// pruned, once its file is on the disk, was read back and is recorded in the database. Whatever interrupts it, the next export goes on from there.
func Export(ctx context.Context, pool *pgxpool.Pool, o ExportOptions) ([]Segment, error) {
	if o.SegmentRows == 0 {
		o.SegmentRows = DefaultSegmentRows
	}
	var out []Segment
	err := alone(ctx, pool, func(conn *pgxpool.Conn) error {
		partitions, err := db.New(conn).AuditPartitions(ctx)
		if err != nil {
			return fmt.Errorf("list the partitions: %w", err)
		}
		for _, partition := range partitions {
			for {
				s, err := exportNext(ctx, conn, partition, o)
				if err != nil {
					return fmt.Errorf("export partition %d: %w", partition, err)
				}
				if s == nil {
					break
				}
				out = append(out, *s)
				if o.Done != nil {
					o.Done(*s)
				}
			}
		}
		return nil
	})
	return out, err
}

// alone runs work while nobody else exports or prunes.
func alone(ctx context.Context, pool *pgxpool.Pool, work func(*pgxpool.Conn) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Release()
	q := db.New(conn)
	locked, err := q.TryLockAuditRetention(ctx, retentionLock)
	if err != nil {
		return fmt.Errorf("lock the segments: %w", err)
	}
	if !locked {
		return ErrBusy
	}
	defer func() {
		if q.UnlockAuditRetention(context.WithoutCancel(ctx), retentionLock) != nil {
			_ = conn.Conn().Close(context.WithoutCancel(ctx)) // which unlocks
		}
	}()
	return work(conn)
}

// exportNext exports the segment after the last one; nil when there is none.
func exportNext(ctx context.Context, conn *pgxpool.Conn, partition int32, o ExportOptions) (*Segment, error) {
	q := db.New(conn)
	after := Anchor{Hash: Genesis()}
	last, err := q.LastAuditSegment(ctx, partition)
	switch {
	case err == nil:
		after = Anchor{Position: last.LastPosition, Hash: last.LastHash}
	case !errors.Is(err, pgx.ErrNoRows):
		return nil, fmt.Errorf("read the last segment: %w", err)
	}
	limit := o.SegmentRows
	name := filepath.Join(o.Folder, segmentFile(partition, after.Position+1))
	// What an interrupted export wrote is written once more, the same.
	earlier, err := readManifest(name + manifestSuffix)
	switch {
	case err == nil:
		limit, o.Before = earlier.LastPosition-after.Position, time.Now().AddDate(1, 0, 0)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	s, err := writeSegment(ctx, conn, name, partition, after, limit, o.Before, earlier)
	if err != nil || s == nil {
		return nil, err
	}
	err = q.InsertAuditSegment(ctx, db.InsertAuditSegmentParams{
		KafkaPartition: s.Partition, FirstPosition: s.FirstPosition, LastPosition: s.LastPosition, FirstPreviousHash: s.FirstPreviousHash,
		LastHash: s.LastHash, FirstRecordedAt: s.FirstRecordedAt, LastRecordedAt: s.LastRecordedAt, File: s.File, FileBytes: s.Bytes, FileSha256: s.SHA256,
	})
	if err != nil {
		return nil, fmt.Errorf("record the segment: %w", err)
	}
	return s, nil
}

// writeSegment writes the file and the manifest, in this order, each under another name until it is complete and on the disk.
// Files that are there already are left alone unless they are the same.
func writeSegment(ctx context.Context, conn *pgxpool.Conn, name string, partition int32, after Anchor, limit int64, before time.Time,
	earlier *Segment,
) (*Segment, error) {
	s := &Segment{
		Format: archiveFormat, Partition: partition, FirstPosition: after.Position + 1, LastPosition: after.Position,
		FirstPreviousHash: after.Hash, LastHash: after.Hash, File: filepath.Base(name),
	}
	err := place(name, func(file *os.File) error {
		sum := newCounter(file)
		buffer := bufio.NewWriterSize(sum, 256<<10)
		if err := s.copyRows(ctx, conn, buffer, limit, before); err != nil {
			return err
		}
		if s.Rows == 0 {
			return errNothing
		}
		if err := buffer.Flush(); err != nil {
			return fmt.Errorf("write the segment: %w", err)
		}
		s.Bytes, s.SHA256 = sum.bytes, sum.hash.Sum(nil)
		if earlier != nil && !bytes.Equal(earlier.SHA256, s.SHA256) {
			return fmt.Errorf("%s is there already, with other rows: is the folder another database's archive?", name)
		}
		return nil
	})
	if errors.Is(err, errNothing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := s.check(filepath.Dir(name)); err != nil {
		return nil, fmt.Errorf("what was written can't be read back: %w", err)
	}
	manifest, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the manifest: %w", err)
	}
	return s, place(name+manifestSuffix, func(file *os.File) error {
		_, err := file.Write(append(manifest, '\n'))
		return err
	})
}

// errNothing means that there is no row to export.
var errNothing = errors.New("nothing to export")

// copyRows writes the rows that follow the segment's last one.
func (s *Segment) copyRows(ctx context.Context, conn *pgxpool.Conn, to *bufio.Writer, limit int64, before time.Time) error {
	rows, err := conn.Query(ctx, "SELECT "+columns+` FROM audit_events WHERE kafka_partition = $1 AND chain_position > $2
		ORDER BY chain_position LIMIT $3`, s.Partition, s.LastPosition, limit)
	if err != nil {
		return fmt.Errorf("read the chain: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var row Link
		if err := row.scan(rows); err != nil {
			return fmt.Errorf("read a row: %w", err)
		}
		if !row.RecordedAt.Before(before) {
			return nil
		}
		if row.Position != s.LastPosition+1 || !bytes.Equal(row.PreviousHash, s.LastHash) || !row.Intact() {
			return fmt.Errorf("row %d does not follow row %d in the chain, or was changed: `atlas audit verify` says more", row.Position, s.LastPosition)
		}
		b, err := encode(&row)
		if err != nil {
			return err
		}
		if _, err := to.Write(b); err != nil {
			return fmt.Errorf("write the segment: %w", err)
		}
		if s.Rows++; s.Rows == 1 {
			s.FirstRecordedAt = row.RecordedAt.UTC()
		}
		s.LastPosition, s.LastHash, s.LastRecordedAt = row.Position, row.Hash, row.RecordedAt.UTC()
	}
	return rows.Err()
}

// check reads the segment's file: it is the one that was exported, and its rows are one chain from the hash before to the last.
func (s *Segment) check(folder string) error {
	previous, position := []byte(s.FirstPreviousHash), s.FirstPosition-1
	var wrong error
	err := readSegment(folder, s, func(row *Link) {
		position++
		if wrong == nil && (row.Position != position || !bytes.Equal(row.PreviousHash, previous) || !row.Intact()) {
			wrong = fmt.Errorf("%s: row %d is not the chain's", s.File, row.Position)
		}
		previous = row.Hash
	})
	if err == nil && wrong == nil && (position != s.LastPosition || !bytes.Equal(previous, s.LastHash)) {
		wrong = fmt.Errorf("%s does not end with row %d of the chain", s.File, s.LastPosition)
	}
	return errors.Join(err, wrong)
}

// place writes a file so that it is there completely and on the disk, or not at all.
func place(name string, write func(*os.File) error) (err error) {
	file, err := os.OpenFile(name+".partial", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("make a file: %w", err)
	}
	defer func() {
		_ = file.Close() // again, as a rule
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	if err := write(file); err != nil {
		return err
	}
	if err := errors.Join(file.Sync(), file.Close(), os.Rename(file.Name(), name)); err != nil {
		return fmt.Errorf("keep the file: %w", err)
	}
	folder, err := os.Open(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("open the folder: %w", err)
	}
	if err := errors.Join(folder.Sync(), folder.Close()); err != nil {
		return fmt.Errorf("keep the folder: %w", err)
	}
	return nil
}
