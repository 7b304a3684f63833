package cursor_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/cursor"
)

type position struct {
	ID    uuid.UUID `json:"i,omitzero"`
	Time  time.Time `json:"t,omitzero"`
	Inner string    `json:"s,omitempty"`
}

// FuzzCursor: nothing but a cursor that was made for this list is accepted, byte for byte.
func FuzzCursor(f *testing.F) {
	keys := make([]ed25519.PrivateKey, 3)
	for i := range keys {
		keys[i] = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i)}, ed25519.SeedSize))
	}
	codec, err := cursor.New(keys[0], keys[1])
	require.NoError(f, err)
	before, err := cursor.New(keys[1])
	require.NoError(f, err)
	stranger, err := cursor.New(keys[2])
	require.NoError(f, err)
	id := uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057")
	good := make(map[string]position)
	for _, p := range []position{{}, {ID: id}, {ID: id, Time: time.Date(2026, 1, 22, 10, 0, 0, 123456000, time.UTC)}, {Inner: `{"pit":"x","after":[1.5,null]}`}} {
		for i, c := range []cursor.Codec{codec, before, stranger} {
			for _, scope := range [][]any{{"items", id, "tag"}, {"items", id, "other"}} {
				made, err := c.Encode(p, scope...)
				require.NoError(f, err)
				f.Add(made)
				if i < 2 && scope[2] == "tag" {
					good[made] = p
					f.Add(made[:len(made)-1])
					f.Add(made + "=")
				}
			}
		}
	}
	f.Add("")
	f.Add(base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 40)))
	f.Fuzz(func(t *testing.T, made string) {
		var p position
		want, ok := good[made]
		require.Equal(t, ok, codec.Decode(made, &p, "items", id, "tag"))
		require.Equal(t, want, p)
	})
}
