package auditchain

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
)

// archiveFormat names the format of a segment's files.
const archiveFormat = "atlas.audit.segment.v1"

// manifestSuffix ends the name of the file that describes a segment, beside the segment's own.
const manifestSuffix = ".manifest.json"

// maxLine bounds a row in an archive. A Kafka message is far below it.
const maxLine = 64 << 20

// Segment is a stretch of one partition's chain in an archive: a file with a row on each line. Its manifest is this, as JSON.
type Segment struct {
	Format            string    `json:"format"`
	Partition         int32     `json:"kafka_partition"`
	FirstPosition     int64     `json:"first_position"`
	LastPosition      int64     `json:"last_position"`
	Rows              int64     `json:"rows"`
	FirstPreviousHash Digest    `json:"first_previous_hash"`
	LastHash          Digest    `json:"last_hash"`
	FirstRecordedAt   time.Time `json:"first_recorded_at"`
	LastRecordedAt    time.Time `json:"last_recorded_at"`
	File              string    `json:"file"`
	Bytes             int64     `json:"bytes"`
	SHA256            Digest    `json:"sha256"`
}

func segmentFile(partition int32, first int64) string {
	return fmt.Sprintf("audit-p%05d-%012d.ndjson", partition, first)
}

// line is a row in an archive. Its last field, data, is written as PostgreSQL wrote it: the hash covers that text.
type line struct {
	EventID      uuid.UUID       `json:"event_id"`
	EventType    string          `json:"event_type"`
	Version      int32           `json:"version"`
	OccurredAt   time.Time       `json:"occurred_at"`
	ActorUserID  *uuid.UUID      `json:"actor_user_id"`
	TraceID      *string         `json:"trace_id"`
	Traceparent  *string         `json:"traceparent"`
	EntityType   string          `json:"entity_type"`
	EntityID     uuid.UUID       `json:"entity_id"`
	CollectionID *uuid.UUID      `json:"collection_id"`
	Partition    int32           `json:"kafka_partition"`
	Offset       int64           `json:"kafka_offset"`
	Position     int64           `json:"chain_position"`
	RecordedAt   time.Time       `json:"recorded_at"`
	PreviousHash Digest          `json:"previous_hash"`
	Hash         Digest          `json:"hash"`
	Data         json.RawMessage `json:"data,omitempty"`
}

func encode(row *Link) ([]byte, error) {
	b, err := json.Marshal(line{
		EventID: row.EventID, EventType: row.EventType, Version: row.Version, OccurredAt: row.OccurredAt.UTC(), ActorUserID: row.ActorUserID,
		TraceID: row.TraceID, Traceparent: row.Traceparent, EntityType: row.EntityType, EntityID: row.EntityID, CollectionID: row.CollectionID,
		Partition: row.Partition, Offset: row.Offset, Position: row.Position, RecordedAt: row.RecordedAt.UTC(),
		PreviousHash: row.PreviousHash, Hash: row.Hash,
	})
	if err != nil {
		return nil, fmt.Errorf("encode row %d: %w", row.Position, err)
	}
	b = append(b[:len(b)-1], `,"data":`...)
	return append(append(b, row.Data...), "}\n"...), nil
}

func decode(b []byte) (*Link, error) {
	var l line
	if err := json.Unmarshal(b, &l); err != nil {
		return nil, fmt.Errorf("decode a row: %w", err)
	}
	return &Link{
		Row: Row{
			EventID: l.EventID, EventType: l.EventType, Version: l.Version, OccurredAt: l.OccurredAt, ActorUserID: l.ActorUserID, TraceID: l.TraceID,
			Traceparent: l.Traceparent, EntityType: l.EntityType, EntityID: l.EntityID, CollectionID: l.CollectionID, Data: string(l.Data),
			Partition: l.Partition, Offset: l.Offset, Position: l.Position, RecordedAt: l.RecordedAt,
		},
		PreviousHash: l.PreviousHash, Hash: l.Hash,
	}, nil
}

// VerifyArchive follows the chains through a folder of exported segments, without a database: each file is as it was written, its rows are those of
// the chain, and the segments join. Where the oldest segments are kept elsewhere, it begins with those that are there.
func VerifyArchive(folder string, o VerifyOptions) (*Report, error) {
	segments, err := manifests(folder)
	if err != nil {
		return nil, err
	}
	report := &Report{Partitions: []PartitionReport{}, Findings: []Finding{}}
	for len(segments) > 0 {
		partition := segments[0].Partition
		n := slices.IndexFunc(segments, func(s Segment) bool { return s.Partition != partition })
		if n < 0 {
			n = len(segments)
		}
		if o.Partition == nil || *o.Partition == partition {
			if err := verifySegments(folder, segments[:n], o, report); err != nil {
				return nil, err
			}
		}
		segments = segments[n:]
	}
	return report, nil
}

// manifests reads the folder's, in the order of the chains.
func manifests(folder string) ([]Segment, error) {
	names, err := filepath.Glob(filepath.Join(folder, "audit-p*"+manifestSuffix))
	if err != nil {
		return nil, fmt.Errorf("read the folder %s: %w", folder, err)
	}
	if _, err := os.Stat(folder); err != nil {
		return nil, fmt.Errorf("read the folder: %w", err)
	}
	out := make([]Segment, 0, len(names))
	for _, name := range names {
		s, err := readManifest(name)
		if err != nil {
			return nil, err
		}
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b Segment) int {
		if a.Partition != b.Partition {
			return int(a.Partition - b.Partition)
		}
		return int(a.FirstPosition - b.FirstPosition)
	})
	return out, nil
}

func readManifest(name string) (*Segment, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read a manifest: %w", err)
	}
	var s Segment
	if err := json.Unmarshal(content, &s); err != nil {
		return nil, fmt.Errorf("%s is not a manifest: %w", name, err)
	}
	if s.Format != archiveFormat {
		return nil, fmt.Errorf("%s has the format %q: want %q", name, s.Format, archiveFormat)
	}
	if s.File != filepath.Base(s.File) || s.FirstPosition < 1 || s.LastPosition < s.FirstPosition {
		return nil, fmt.Errorf("%s is not a usable manifest", name)
	}
	return &s, nil
}

// verifySegments follows one partition's chain.
func verifySegments(folder string, segments []Segment, o VerifyOptions, report *Report) error {
	first := segments[0]
	part := PartitionReport{Partition: first.Partition}
	note := func(f Finding) { report.add(&part, f) }
	var anchors []Anchor
	for i := range segments {
		s := &segments[i]
		anchors = append(anchors, Anchor{Partition: s.Partition, Position: s.LastPosition, Hash: s.LastHash, Source: "the manifest of " + s.File})
	}
	last := anchors[len(anchors)-1]
	for _, a := range o.Known {
		if a.Partition == first.Partition && a.Position <= last.Position { // what is newer is not in the archive yet
			anchors = append(anchors, a)
		}
	}
	start := Anchor{Partition: first.Partition, Position: first.FirstPosition - 1, Hash: first.FirstPreviousHash}
	if start.Position == 0 {
		start.Hash = Genesis()
	}
	f := newFollower(start, anchors, note)
	for i := range segments {
		s := &segments[i]
		err := readSegment(folder, s, func(row *Link) {
			f.next(row)
			if o.Progress != nil && f.rows%progressRows == 0 {
				o.Progress(s.Partition, f.rows)
			}
		})
		if err != nil {
			var pathErr *fs.PathError
			if errors.As(err, &pathErr) && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			note(Finding{Kind: Archive, First: s.FirstPosition, Last: s.LastPosition, Detail: err.Error()})
		}
	}
	f.finish()
	part.Rows, part.PrunedThrough, part.LastPosition, part.LastHash = f.rows, start.Position, f.last.Position, f.last.Hash
	report.Rows += f.rows
	report.Partitions = append(report.Partitions, part)
	if o.Progress != nil {
		o.Progress(part.Partition, f.rows)
	}
	return nil
}

// readSegment calls each for the rows of a segment's file, then tells whether the file is the one of the manifest.
func readSegment(folder string, s *Segment, each func(*Link)) error {
	file, err := os.Open(filepath.Join(folder, s.File))
	if err != nil {
		return fmt.Errorf("open a segment: %w", err)
	}
	defer file.Close()
	sum := newCounter(io.Discard)
	lines := bufio.NewScanner(io.TeeReader(file, sum))
	lines.Buffer(make([]byte, 64<<10), maxLine)
	var rows int64
	for lines.Scan() {
		row, err := decode(lines.Bytes())
		if err != nil {
			return fmt.Errorf("%s, line %d: %w", s.File, rows+1, err)
		}
		if row.Partition != s.Partition || row.Position < s.FirstPosition || row.Position > s.LastPosition {
			return fmt.Errorf("%s, line %d: row %d of partition %d does not belong to the segment", s.File, rows+1, row.Position, row.Partition)
		}
		rows++
		each(row)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read %s: %w", s.File, err)
	}
	if sum.bytes != s.Bytes || !bytes.Equal(sum.hash.Sum(nil), s.SHA256) {
		return fmt.Errorf("%s is not the file that was exported: %d bytes with the SHA-256 %x; want %d bytes, %x", s.File, sum.bytes, sum.hash.Sum(nil),
			s.Bytes, []byte(s.SHA256))
	}
	if rows != s.Rows {
		return fmt.Errorf("%s has %d rows, its manifest says %d", s.File, rows, s.Rows)
	}
	return nil
}

// counter counts and sums what is written through it.
type counter struct {
	to    io.Writer
	hash  hash.Hash
	bytes int64
}

func newCounter(to io.Writer) *counter { return &counter{to: to, hash: sha256.New()} }

// Write implements io.Writer.
func (c *counter) Write(b []byte) (int, error) {
	n, err := c.to.Write(b)
	c.hash.Write(b[:n])
	c.bytes += int64(n)
	return n, err
}
