package api

import (
	"context"
	"encoding/base64"

	"github.com/golang-jwt/jwt/v5"

	"github.com/atlas-platform/atlas/internal/token"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// keysMaxAge is short: who verifies tokens should hear of a new key well before it signs.
const keysMaxAge = "public, max-age=300"

// GetKeys implements gen.StrictServerInterface.
func (s *server) GetKeys(context.Context, gen.GetKeysRequestObject) (gen.GetKeysResponseObject, error) {
	out := gen.GetKeys200JSONResponse{
		Headers: gen.GetKeys200ResponseHeaders{CacheControl: keysMaxAge},
		Body:    gen.KeySet{Keys: make([]gen.Key, len(s.keys))},
	}
	for i, key := range s.keys {
		out.Body.Keys[i] = gen.Key{
			Kty: "OKP", Crv: "Ed25519", X: base64.RawURLEncoding.EncodeToString(key), Kid: token.KeyID(key), Use: "sig",
			Alg: jwt.SigningMethodEdDSA.Alg(),
		}
	}
	return out, nil
}
