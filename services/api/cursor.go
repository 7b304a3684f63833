package api

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

const cursorMACLength = 16

// lastID is before every UUIDv7 in a list that starts with the newest.
var lastID = uuid.Max

// position is where a page ended.
type position struct {
	ID   uuid.UUID `json:"i,omitzero"`
	Time time.Time `json:"t,omitzero"`
	// Text is the title or the name that the page ended with, in lists that are sorted by it.
	Text string `json:"x,omitempty"`
	// Version is an item's.
	Version int64 `json:"v,omitzero"`
	// Inner is the cursor of the search engine.
	Inner string `json:"s,omitempty"`
}

// cursorCodec makes opaque cursors. They are signed, so that nobody can make positions up, and bound to the list that they came from.
type cursorCodec struct{ keys [][]byte }

// newCursorCodec signs with the first key and accepts what any of them has signed.
func newCursorCodec(signingKeys ...ed25519.PrivateKey) (cursorCodec, error) {
	var c cursorCodec
	for _, signingKey := range signingKeys {
		key, err := hkdf.Key(sha256.New, signingKey.Seed(), nil, "atlas list cursors v1", sha256.Size)
		if err != nil {
			return cursorCodec{}, fmt.Errorf("derive the cursors' key: %w", err)
		}
		c.keys = append(c.keys, key)
	}
	return c, nil
}

// encode returns the cursor of a position in the list that scope describes.
func (c cursorCodec) encode(p position, scope ...any) (*string, error) {
	payload, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode a cursor: %w", err)
	}
	cursor := base64.RawURLEncoding.EncodeToString(append(mac(c.keys[0], payload, scope), payload...))
	return &cursor, nil
}

// decode reads a cursor of the list that scope describes. A nil cursor is the start.
func (c cursorCodec) decode(cursor *string, start position, scope ...any) (position, error) {
	if cursor == nil {
		return start, nil
	}
	var p position
	raw, err := base64.RawURLEncoding.Strict().DecodeString(*cursor)
	if err == nil && len(raw) > cursorMACLength && c.signed(raw[:cursorMACLength], raw[cursorMACLength:], scope) &&
		json.Unmarshal(raw[cursorMACLength:], &p) == nil {
		return p, nil
	}
	const message = "is not next_cursor of a page of this list with the same filters"
	return position{}, badRequest("cursor "+message, parameter("cursor", message))
}

func (c cursorCodec) signed(sum, payload []byte, scope []any) bool {
	return slices.ContainsFunc(c.keys, func(key []byte) bool { return hmac.Equal(sum, mac(key, payload, scope)) })
}

func mac(key, payload []byte, scope []any) []byte {
	sum := hmac.New(sha256.New, key)
	_ = json.NewEncoder(sum).Encode(scope) // strings, UUIDs and times: always encodable
	sum.Write(payload)
	return sum.Sum(nil)[:cursorMACLength]
}
