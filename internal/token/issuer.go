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

// Type is the `typ` header of an access token (RFC 9068), so that no other JWT signed with the same key passes for one.
const Type = "at+jwt"

// OperatorSubject is the subject of the operator's service tokens.
const OperatorSubject = systemPrefix + "operator"

const (
	scopeService = "service"
	systemPrefix = "system:"
)

// claims is the payload on the wire.
type claims struct {
	jwt.RegisteredClaims
	Scope   string `json:"scope,omitempty"`
	Session string `json:"sid,omitempty"`
	Admin   bool   `json:"admin,omitempty"`
}

// Issuer mints access tokens with one key. It is safe for concurrent use.
type Issuer struct {
	key      ed25519.PrivateKey
	keyID    string
	issuer   string
	audience string
	ttl      time.Duration
	clock    func() time.Time
}

// NewIssuer returns an Issuer whose user tokens live for ttl. A nil clock means time.Now.
func NewIssuer(key ed25519.PrivateKey, issuer, audience string, ttl time.Duration, clock func() time.Time) *Issuer {
	if clock == nil {
		clock = time.Now
	}
	return &Issuer{key: key, keyID: KeyID(PublicKey(key)), issuer: issuer, audience: audience, ttl: ttl, clock: clock}
}

// PublicKey is the public half of key, for a Verifier.
func PublicKey(key ed25519.PrivateKey) ed25519.PublicKey {
	return key.Public().(ed25519.PublicKey)
}

// TTL is the lifetime of the tokens that Mint returns.
func (i *Issuer) TTL() time.Duration { return i.ttl }

// Mint returns an access token for a user. It carries no rights: whoever verifies it looks them up, so that a change is in force at once.
func (i *Issuer) Mint(user uuid.UUID) (string, error) {
	if user == uuid.Nil {
		return "", errors.New("mint a token: the user is the nil UUID")
	}
	return i.sign(claims{RegisteredClaims: i.registered(user.String(), i.ttl)})
}

// MintSession returns an access token that ends with the session that it belongs to.
func (i *Issuer) MintSession(user, session uuid.UUID) (string, error) {
	if user == uuid.Nil || session == uuid.Nil {
		return "", errors.New("mint a token: the user or the session is the nil UUID")
	}
	return i.sign(claims{RegisteredClaims: i.registered(user.String(), i.ttl), Session: session.String()})
}

// MintService returns a token for a part of Atlas itself, with scope `service` and admin rights. The subject starts with "system:"; ttl should
// be about as long as the one call that the token is for.
func (i *Issuer) MintService(subject string, ttl time.Duration) (string, error) {
	if name, ok := strings.CutPrefix(subject, systemPrefix); !ok || name == "" {
		return "", fmt.Errorf("mint a service token: the subject %q is not %s<name>", subject, systemPrefix)
	}
	return i.sign(claims{RegisteredClaims: i.registered(subject, ttl), Scope: scopeService, Admin: true})
}

func (i *Issuer) registered(subject string, ttl time.Duration) jwt.RegisteredClaims {
	now := i.clock()
	return jwt.RegisteredClaims{
		Issuer:    i.issuer,
		Audience:  jwt.ClaimStrings{i.audience},
		Subject:   subject,
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
		ID:        uuid.NewString(),
	}
}

func (i *Issuer) sign(payload claims) (string, error) {
	unsigned := jwt.NewWithClaims(jwt.SigningMethodEdDSA, payload)
	unsigned.Header["typ"] = Type
	unsigned.Header["kid"] = i.keyID
	signed, err := unsigned.SignedString(i.key)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return signed, nil
}
