// Package cursor makes the opaque cursors of lists. They are signed, so that nobody can make positions up, and bound to the list that they came from.
package cursor

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

const macLength = 16

// Codec signs positions and reads what it has signed.
type Codec struct{ keys [][]byte }

// New signs with the first key and accepts what any of them has signed.
func New(signingKeys ...ed25519.PrivateKey) (Codec, error) {
	var c Codec
	for _, signingKey := range signingKeys {
		key, err := hkdf.Key(sha256.New, signingKey.Seed(), nil, "atlas list cursors v1", sha256.Size)
		if err != nil {
			return Codec{}, fmt.Errorf("derive the cursors' key: %w", err)
		}
		c.keys = append(c.keys, key)
	}
	return c, nil
}

// Encode returns the cursor of a position, which must have a JSON form, in the list that scope describes with strings, UUIDs and times.
func (c Codec) Encode(position any, scope ...any) (string, error) {
	payload, err := json.Marshal(position)
	if err != nil {
		return "", fmt.Errorf("encode a cursor: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(append(mac(c.keys[0], payload, scope), payload...)), nil
}

// Decode reads the position of a cursor of the list that scope describes. It returns false when the cursor is no such thing.
func (c Codec) Decode(cursor string, position any, scope ...any) bool {
	if strings.ContainsAny(cursor, "\r\n") { // base64 skips them
		return false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	return err == nil && len(raw) > macLength && c.signed(raw[:macLength], raw[macLength:], scope) && json.Unmarshal(raw[macLength:], position) == nil
}

func (c Codec) signed(sum, payload []byte, scope []any) bool {
	return slices.ContainsFunc(c.keys, func(key []byte) bool { return hmac.Equal(sum, mac(key, payload, scope)) })
}

func mac(key, payload []byte, scope []any) []byte {
	sum := hmac.New(sha256.New, key)
	_ = json.NewEncoder(sum).Encode(scope) // always encodable
	sum.Write(payload)
	return sum.Sum(nil)[:macLength]
}
