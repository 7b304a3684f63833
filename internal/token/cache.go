package token

import (
	"crypto/sha256"
	"time"

	"github.com/atlas-platform/atlas/internal/bounded"
)

// maxCached bounds the memory, about 300 bytes a token.
const maxCached = 1 << 14

// Cache is a Verifier that checks each token once. A good signature stays good, and the keys of a Verifier never change; only time passes.
type Cache struct {
	verifier *Verifier
	clock    func() time.Time
	claims   *bounded.Map[[sha256.Size]byte, Claims]
}

// NewCache remembers what verifier accepts. A nil clock means time.Now.
func NewCache(verifier *Verifier, clock func() time.Time) *Cache {
	if clock == nil {
		clock = time.Now
	}
	return &Cache{
		verifier: verifier, clock: clock,
		claims: bounded.New[[sha256.Size]byte](maxCached, func(c Claims) int64 { return c.ExpiresAt.Unix() }),
	}
}

// Verify is Verifier.Verify.
func (c *Cache) Verify(raw string) (Claims, error) {
	key := sha256.Sum256([]byte(raw))
	if claims, found := c.claims.Get(key); found {
		if c.clock().Before(claims.ExpiresAt) {
			return claims, nil
		}
		c.claims.Delete(key) // the verifier has the last word about the time
	}
	claims, err := c.verifier.Verify(raw)
	if err == nil {
		c.claims.Put(key, claims)
	}
	return claims, err
}
