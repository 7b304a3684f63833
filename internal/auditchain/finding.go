package auditchain

import (
	"encoding/hex"
	"fmt"

	"github.com/google/uuid"
)

// Kind says what was done to the chain.
type Kind string

// The kinds of findings.
const (
	// Changed: the row's hash does not cover its content, or is not the one that the chain has for it.
	Changed Kind = "changed"
	// Removed: rows that the chain has had are not there.
	Removed Kind = "removed"
	// Inserted: rows that the chain does not know of.
	Inserted Kind = "inserted"
	// Moved: a row that is the chain's stands at another's place.
	Moved Kind = "moved"
	// Renumbered: rows follow each other as they should, but their positions are shifted.
	Renumbered Kind = "renumbered"
	// Archive: a file of the archive, or what is recorded of a segment, is not as it was.
	Archive Kind = "archive"
)

// Finding is something that is wrong with a stretch of one partition's chain, mostly with one row. Positions are those that are stored; those of
// removed rows, which have none, are those that they had in the chain.
type Finding struct {
	Kind      Kind       `json:"kind"`
	Partition int32      `json:"kafka_partition"`
	First     int64      `json:"first_position"`
	Last      int64      `json:"last_position"`
	EventID   *uuid.UUID `json:"event_id,omitempty"` // of the one row, where it is there
	// BelongsAt is the position that a moved row had in the chain.
	BelongsAt int64 `json:"belongs_at,omitempty"`
	// ShiftedBy is how much larger than in the chain the positions of renumbered rows are.
	ShiftedBy int64 `json:"shifted_by,omitempty"`
	// Suspected: either this row or the one after it, or both; the chain can't tell.
	Suspected bool   `json:"suspected,omitempty"`
	Detail    string `json:"detail"`
}

// String is one line for people.
func (f *Finding) String() string {
	where := fmt.Sprintf("row %d", f.First)
	if f.First != f.Last {
		where = fmt.Sprintf("rows %d to %d", f.First, f.Last)
	}
	if f.EventID != nil {
		where += " (event " + f.EventID.String() + ")"
	}
	verb := string(f.Kind)
	if f.Suspected {
		verb = "perhaps " + verb
	}
	return fmt.Sprintf("partition %d, %s: %s: %s", f.Partition, where, verb, f.Detail)
}

// Anchor is a row's hash as it is known from elsewhere: the recorded head of the chain, the end of an exported segment, an earlier report.
type Anchor struct {
	Partition int32  `json:"kafka_partition"`
	Position  int64  `json:"chain_position"`
	Hash      Digest `json:"hash"`
	Source    string `json:"source,omitempty"` // for people
}

// Digest is a SHA-256 sum, written in hexadecimal.
type Digest []byte

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) (err error) {
	*d, err = hex.AppendDecode(nil, text)
	return err
}

// maxFindings bounds the memory of a report about a chain that was destroyed.
const maxFindings = 1000

// Report is the outcome of a verification.
type Report struct {
	Rows       int64             `json:"rows"`
	Partitions []PartitionReport `json:"partitions"`
	// Findings are the first 1000; Found counts all.
	Findings []Finding `json:"findings"`
	Found    int64     `json:"found"`
}

// PartitionReport is the state of one partition's chain.
type PartitionReport struct {
	Partition     int32  `json:"kafka_partition"`
	Rows          int64  `json:"rows"`
	PrunedThrough int64  `json:"pruned_through"` // the last position that left the table in an exported segment; 0 for none
	LastPosition  int64  `json:"last_position"`
	LastHash      Digest `json:"last_hash"`
	Found         int64  `json:"found"`
}

// Heads are the ends of the chains, to be kept elsewhere and given to a later verification.
func (r *Report) Heads() []Anchor {
	heads := make([]Anchor, 0, len(r.Partitions))
	for _, p := range r.Partitions {
		if p.LastPosition > 0 {
			heads = append(heads, Anchor{Partition: p.Partition, Position: p.LastPosition, Hash: p.LastHash, Source: "an earlier report"})
		}
	}
	return heads
}

func (r *Report) add(p *PartitionReport, f Finding) {
	f.Partition = p.Partition
	r.Found++
	p.Found++
	if len(r.Findings) < maxFindings {
		r.Findings = append(r.Findings, f)
	}
}
