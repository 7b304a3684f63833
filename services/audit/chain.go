package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

// hashDomain separates these hashes from any other use of SHA-256 and names the encoding below.
const hashDomain = "atlas.audit.v1"

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
	EntityType   string
	EntityID     uuid.UUID
	CollectionID *uuid.UUID
	Data         string // PostgreSQL's text of the jsonb value
	Partition    int32
	Offset       int64
	Position     int64 // in the partition's chain, from 1
	RecordedAt   time.Time
}

// Hash is SHA-256 over the domain, the fields in the order of Row and the previous hash. Each field is preceded by its length as four bytes,
// big endian; numbers and times (microseconds since 1970) are eight bytes; NULL is the length 0xFFFFFFFF with nothing after it. No two contents
// have the same encoding.
func (r *Row) Hash(previous []byte) []byte {
	e := make([]byte, 0, 512+len(r.Data))
	e = field(e, []byte(hashDomain))
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
	e = field(e, []byte(r.EntityType))
	e = field(e, r.EntityID[:])
	e = optionalID(e, r.CollectionID)
	e = field(e, []byte(r.Data))
	e = number(e, int64(r.Partition))
	e = number(e, r.Offset)
	e = number(e, r.Position)
	e = number(e, r.RecordedAt.UnixMicro())
	e = field(e, previous)
	sum := sha256.Sum256(e)
	return sum[:]
}

func field(e, value []byte) []byte {
	return append(binary.BigEndian.AppendUint32(e, uint32(len(value))), value...) //nolint:gosec // a Kafka message is far below 4 GiB
}

func number(e []byte, n int64) []byte {
	return field(e, binary.BigEndian.AppendUint64(nil, uint64(n))) //nolint:gosec // the bits are what counts
}

func null(e []byte) []byte { return append(e, 0xFF, 0xFF, 0xFF, 0xFF) }

func optionalID(e []byte, id *uuid.UUID) []byte {
	if id == nil {
		return null(e)
	}
	return field(e, id[:])
}
