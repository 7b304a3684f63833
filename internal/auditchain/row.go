// Package auditchain is the hash chain of the audit trail, one for each Kafka partition: how a row is hashed, how a chain is followed so that
// a row that was changed, removed or inserted is named, and how whole segments of it are exported, verified and pruned.
package auditchain

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// The domains separate these hashes from any other use of SHA-256 and name the encoding below. The second one is that of rows with a traceparent:
// rows of the time before it keep their hash.
const (
	hashDomain            = "atlas.audit.v1"
	hashDomainTraceparent = "atlas.audit.v2"
)

// LockNamespace is the first half of the advisory lock of a partition's chain, the partition is the second: "audi" in ASCII.
const LockNamespace = 0x61756469

// Genesis is the previous hash of a partition's first row.
func Genesis() []byte { return make([]byte, sha256.Size) }

// Row is the content of one row of the trail that its hash covers.
type Row struct {
	EventID      uuid.UUID
	EventType    string
	Version      int32
	OccurredAt   time.Time // microseconds
	ActorUserID  *uuid.UUID
	TraceID      *string
	Traceparent  *string
	EntityType   string
	EntityID     uuid.UUID
	CollectionID *uuid.UUID
	Data         string // PostgreSQL's text of the jsonb value
	Partition    int32
	Offset       int64
	Position     int64 // in the partition's chain, from 1
	RecordedAt   time.Time
}

// Hash is SHA-256 over the domain, the fields in the order of Row, without a traceparent that is nil, and the previous hash. Each field is preceded by its length as four bytes,
// big endian; numbers and times (microseconds since 1970) are eight bytes; NULL is the length 0xFFFFFFFF with nothing after it. No two contents
// have the same encoding.
func (r *Row) Hash(previous []byte) []byte {
	sum := sha256.Sum256(r.encode(make([]byte, 0, 512+len(r.Data)), previous))
	return sum[:]
}

// encode appends what the hash is made of.
func (r *Row) encode(e, previous []byte) []byte {
	if r.Traceparent == nil {
		e = field(e, []byte(hashDomain))
	} else {
		e = field(e, []byte(hashDomainTraceparent))
	}
	e = field(e, r.EventID[:])
	e = field(e, []byte(r.EventType))
	e = number(e, int64(r.Version))
	e = number(e, r.OccurredAt.UnixMicro())
	e = optionalID(e, r.ActorUserID)
	if r.TraceID == nil {
		e = null(e)
	} else {
		e = field(e, []byte(*r.TraceID))
	}
	if r.Traceparent != nil {
		e = field(e, []byte(*r.Traceparent))
	}
	e = field(e, []byte(r.EntityType))
	e = field(e, r.EntityID[:])
	e = optionalID(e, r.CollectionID)
	e = field(e, []byte(r.Data))
	e = number(e, int64(r.Partition))
	e = number(e, r.Offset)
	e = number(e, r.Position)
	e = number(e, r.RecordedAt.UnixMicro())
	return field(e, previous)
}

// reposition changes the position within what encode has made with a previous hash.
func reposition(encoded, previous []byte, position int64) {
	const afterIt = 12 + 4 // recorded_at with its length, the length of the previous hash
	at := len(encoded) - len(previous) - afterIt - 8
	binary.BigEndian.PutUint64(encoded[at:], uint64(position)) //nolint:gosec // the bits are what counts
}

func field(e, value []byte) []byte {
	return append(binary.BigEndian.AppendUint32(e, uint32(len(value))), value...) //nolint:gosec // a Kafka message is far below 4 GiB
}

func number(e []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(append(e, 0, 0, 0, 8), uint64(n)) //nolint:gosec // the bits are what counts
}

func null(e []byte) []byte { return append(e, 0xFF, 0xFF, 0xFF, 0xFF) }

func optionalID(e []byte, id *uuid.UUID) []byte {
	if id == nil {
		return null(e)
	}
	return field(e, id[:])
}

// Link is a row as it is stored: with its own hash and that of the row before it.
type Link struct {
	Row
	PreviousHash []byte
	Hash         []byte
}

// Intact tells whether the row's hash covers its content and the hash that it names as the one before.
func (l *Link) Intact() bool { return bytes.Equal(l.Row.Hash(l.PreviousHash), l.Hash) }

// columns are what scan reads.
const columns = `event_id, event_type, version, occurred_at, actor_user_id, trace_id, traceparent, entity_type, entity_id, collection_id, data::text,
	kafka_partition, kafka_offset, chain_position, recorded_at, previous_hash, hash`

func (l *Link) scan(rows pgx.Rows) error {
	return rows.Scan(&l.EventID, &l.EventType, &l.Version, &l.OccurredAt, &l.ActorUserID, &l.TraceID, &l.Traceparent, &l.EntityType, &l.EntityID,
		&l.CollectionID, &l.Data, &l.Partition, &l.Offset, &l.Position, &l.RecordedAt, &l.PreviousHash, &l.Hash)
}
