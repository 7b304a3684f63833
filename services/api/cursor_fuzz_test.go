package api

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// FuzzCursor: nothing but a cursor that was made for this list is accepted, byte for byte.
func FuzzCursor(f *testing.F) {
	keys := make([]ed25519.PrivateKey, 3)
	for i := range keys {
		keys[i] = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i)}, ed25519.SeedSize))
	}
	codec, err := newCursorCodec(keys[0], keys[1])
	require.NoError(f, err)
	stranger, err := newCursorCodec(keys[2])
	require.NoError(f, err)
	id := uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057")
	good := make(map[string]bool)
	for _, p := range []position{{}, {ID: id}, {ID: id, Time: time.Date(2026, 1, 22, 10, 0, 0, 123456000, time.UTC)}, {Inner: `{"pit":"x","after":[1.5,null]}`}} {
		for i, c := range []cursorCodec{codec, stranger} {
			for _, scope := range [][]any{{"items", id, "tag"}, {"items", id, "other"}} {
				cursor, err := c.encode(p, scope...)
				require.NoError(f, err)
				f.Add(*cursor)
				if i == 0 && scope[2] == "tag" {
					good[*cursor] = true
					f.Add((*cursor)[:len(*cursor)-1])
					f.Add(*cursor + "=")
				}
			}
		}
	}
	f.Add("")
	f.Add(base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 40)))
	f.Fuzz(func(t *testing.T, cursor string) {
		p, err := codec.decode(&cursor, position{ID: id}, "items", id, "tag")
		if good[cursor] {
			require.NoError(t, err)
			return
		}
		var refused *problem
		require.ErrorAs(t, err, &refused)
		require.Equal(t, 400, refused.status)
		require.Zero(t, p)
	})
}
