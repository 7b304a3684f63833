package token

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// Leeway is the clock skew allowed between the machine that minted a token and the one that verifies it.
const Leeway = 30 * time.Second

// maxToken bounds the input of Verify. A real token has about 500 bytes; a larger one costs nothing but a length check.
const maxToken = 4 << 10

var (
	// ErrInvalid is wrapped by every error of Verify.
	ErrInvalid = errors.New("invalid access token")
	// ErrExpired is wrapped, beside ErrInvalid, when the token was good and its time is over.
	ErrExpired = errors.New("access token expired")
)

// Claims is what a verified token says about its bearer.
type Claims struct {
	// ID is the token's own id (`jti`), for logs.
	ID string
	// Subject is a user's UUID, or "system:<name>" in a service token.
	Subject string
	// UserID is the parsed subject; the nil UUID in a service token.
	UserID uuid.UUID
	// SessionID is the session that the token belongs to; the nil UUID when it belongs to none.
	SessionID uuid.UUID
	// Service says that a part of Atlas itself calls.
	Service bool
	// Admin is true only in service tokens; a user's rights are looked up.
	Admin     bool
	IssuedAt  time.Time
	ExpiresAt time.Time
}

// Verifier checks access tokens against a fixed set of public keys. It is safe for concurrent use.
type Verifier struct {
	keys   map[string]ed25519.PublicKey
	parser *jwt.Parser
}

// NewVerifier returns a Verifier for tokens of one issuer and audience, signed by any of keys. A nil clock means time.Now.
func NewVerifier(issuer, audience string, clock func() time.Time, keys ...ed25519.PublicKey) *Verifier {
	if clock == nil {
		clock = time.Now
	}
	byID := make(map[string]ed25519.PublicKey, len(keys))
	for _, key := range keys {
		byID[KeyID(key)] = key
	}
	return &Verifier{keys: byID, parser: jwt.NewParser(
		// The header's alg chooses nothing: only EdDSA is ever looked at.
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithIssuer(issuer),
		jwt.WithAudience(audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(Leeway),
		jwt.WithTimeFunc(clock),
		// One token has one spelling: without this, the unused last bits of the base64 may be anything.
		jwt.WithStrictDecoding(),
	)}
}

// Verify checks a token's signature, key, type, issuer, audience, times and subject. Every error wraps ErrInvalid.
func (v *Verifier) Verify(raw string) (Claims, error) {
	if len(raw) > maxToken {
		return Claims{}, fmt.Errorf("%w: longer than %d bytes", ErrInvalid, maxToken)
	}
	var payload claims
	if _, err := v.parser.ParseWithClaims(raw, &payload, v.key); err != nil {
		if errors.Is(err, jwt.ErrTokenExpired) {
			return Claims{}, fmt.Errorf("%w: %w", ErrInvalid, ErrExpired)
		}
		return Claims{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return payload.verified()
}

// key finds the public key that the token's header names.
func (v *Verifier) key(unverified *jwt.Token) (any, error) {
	if typ, _ := unverified.Header["typ"].(string); !strings.EqualFold(typ, Type) {
		return nil, errors.New("typ is not " + Type)
	}
	keyID, _ := unverified.Header["kid"].(string)
	key, ok := v.keys[keyID]
	if !ok {
		return nil, errors.New("kid names no known key")
	}
	return key, nil
}

// verified turns a payload with a good signature into Claims. A token is a user's or a service's; one that mixes the two is refused.
func (c claims) verified() (Claims, error) {
	// A token without iat passes the library's checks, which only look at it when it is there.
	if c.IssuedAt == nil || c.ID == "" {
		return Claims{}, fmt.Errorf("%w: iat or jti is missing", ErrInvalid)
	}
	out := Claims{ID: c.ID, Subject: c.Subject, Admin: c.Admin, IssuedAt: c.IssuedAt.UTC(), ExpiresAt: c.ExpiresAt.UTC()}
	if c.Scope == scopeService {
		if name, ok := strings.CutPrefix(c.Subject, systemPrefix); !ok || name == "" {
			return Claims{}, fmt.Errorf("%w: the subject of a service token is not %s<name>", ErrInvalid, systemPrefix)
		}
		if c.Session != "" {
			return Claims{}, fmt.Errorf("%w: a service token has no session", ErrInvalid)
		}
		out.Service = true
		return out, nil
	}
	user, err := uuid.Parse(c.Subject)
	if err != nil || user == uuid.Nil || c.Subject != user.String() {
		return Claims{}, fmt.Errorf("%w: the subject is not a UUID", ErrInvalid)
	}
	if c.Scope != "" || c.Admin {
		return Claims{}, fmt.Errorf("%w: a user's token carries no rights", ErrInvalid)
	}
	if c.Session != "" {
		if out.SessionID, err = uuid.Parse(c.Session); err != nil || out.SessionID == uuid.Nil || c.Session != out.SessionID.String() {
			return Claims{}, fmt.Errorf("%w: the session is not a UUID", ErrInvalid)
		}
	}
	out.UserID = user
	return out, nil
}
