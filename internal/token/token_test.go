package token

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

var (
	testNow  = time.Date(2026, 1, 22, 10, 0, 0, 0, time.UTC)
	testUser = uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057")
)

const testTTL = 15 * time.Minute

type testBundle struct {
	key      ed25519.PrivateKey
	issuer   *Issuer
	verifier *Verifier
	now      *time.Time
}

func setup(t testing.TB) *testBundle {
	t.Helper()
	content, err := GenerateSigningKey()
	require.NoError(t, err)
	key, err := ParseSigningKey(content)
	require.NoError(t, err)
	now := testNow
	clock := func() time.Time { return now }
	return &testBundle{
		key:      key,
		issuer:   NewIssuer(key, "atlas", "atlas-api", testTTL, clock),
		verifier: NewVerifier("atlas", "atlas-api", clock, PublicKey(key)),
		now:      &now,
	}
}

// forge signs any header and payload, as an attacker or a broken issuer would.
func forge(t testing.TB, method jwt.SigningMethod, key any, header, payload map[string]any) string {
	t.Helper()
	unsigned := jwt.NewWithClaims(method, jwt.MapClaims(payload))
	for name, value := range header {
		unsigned.Header[name] = value
	}
	signed, err := unsigned.SignedString(key)
	require.NoError(t, err)
	return signed
}

func goodPayload() map[string]any {
	return map[string]any{
		"iss": "atlas", "aud": "atlas-api", "sub": testUser.String(), "jti": "one",
		"iat": testNow.Unix(), "exp": testNow.Add(testTTL).Unix(),
	}
}

func with(payload map[string]any, name string, value any) map[string]any {
	if value == nil {
		delete(payload, name)
	} else {
		payload[name] = value
	}
	return payload
}

func TestMintAndVerify(t *testing.T) {
	t.Parallel()
	b := setup(t)

	raw, err := b.issuer.Mint(testUser)
	require.NoError(t, err)
	got, err := b.verifier.Verify(raw)
	require.NoError(t, err)
	require.NotEmpty(t, got.ID)
	got.ID = ""
	require.Equal(t, Claims{
		Subject: testUser.String(), UserID: testUser,
		IssuedAt: testNow, ExpiresAt: testNow.Add(testTTL),
	}, got)

	header := decodePart(t, raw, 0)
	require.Equal(t, map[string]any{"alg": "EdDSA", "typ": "at+jwt", "kid": KeyID(PublicKey(b.key))}, header)
	require.NotContains(t, decodePart(t, raw, 1), "admin")

	_, err = b.issuer.Mint(uuid.Nil)
	require.Error(t, err)
}

func TestMintSession(t *testing.T) {
	t.Parallel()
	b := setup(t)
	session := uuid.New()
	raw, err := b.issuer.MintSession(testUser, session)
	require.NoError(t, err)
	got, err := b.verifier.Verify(raw)
	require.NoError(t, err)
	require.Equal(t, testUser, got.UserID)
	require.Equal(t, session, got.SessionID)
	_, err = b.issuer.MintSession(uuid.Nil, session)
	require.Error(t, err)
	_, err = b.issuer.MintSession(testUser, uuid.Nil)
	require.Error(t, err)

	header := map[string]any{"typ": Type, "kid": KeyID(PublicKey(b.key))}
	for name, payload := range map[string]map[string]any{
		"no UUID":          with(goodPayload(), "sid", "x"),
		"nil UUID":         with(goodPayload(), "sid", uuid.Nil.String()),
		"other spelling":   with(goodPayload(), "sid", strings.ToUpper(session.String())),
		"a service's call": with(with(with(goodPayload(), "sub", OperatorSubject), "scope", "service"), "sid", session.String()),
	} {
		_, err := b.verifier.Verify(forge(t, jwt.SigningMethodEdDSA, b.key, header, payload))
		require.ErrorIs(t, err, ErrInvalid, name)
	}
}

func TestMintService(t *testing.T) {
	t.Parallel()
	b := setup(t)

	raw, err := b.issuer.MintService(OperatorSubject, time.Minute)
	require.NoError(t, err)
	got, err := b.verifier.Verify(raw)
	require.NoError(t, err)
	require.True(t, got.Service)
	require.True(t, got.Admin)
	require.Equal(t, "system:operator", got.Subject)
	require.Equal(t, uuid.Nil, got.UserID)
	require.Equal(t, testNow.Add(time.Minute), got.ExpiresAt)
	payload := decodePart(t, raw, 1)
	require.Equal(t, "service", payload["scope"])
	require.Equal(t, true, payload["admin"])

	for _, subject := range []string{"", "system:", "operator", testUser.String()} {
		_, err = b.issuer.MintService(subject, time.Minute)
		require.Error(t, err, subject)
	}
}

func TestEachTokenHasItsOwnID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, err := b.issuer.Mint(testUser)
	require.NoError(t, err)
	second, err := b.issuer.Mint(testUser)
	require.NoError(t, err)
	require.NotEqual(t, first, second)
}

func TestVerifyTimes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after   time.Duration
		expired bool
		ok      bool
	}{
		"just before the end":        {after: testTTL - time.Second, ok: true},
		"within the leeway":          {after: testTTL + Leeway - time.Second, ok: true},
		"after the leeway":           {after: testTTL + Leeway + time.Second, expired: true},
		"a slow verifier":            {after: -Leeway, ok: true},
		"issued in the far future":   {after: -Leeway - time.Second},
		"the day after tomorrow":     {after: 48 * time.Hour, expired: true},
		"the moment it was minted":   {ok: true},
		"exactly at the end of life": {after: testTTL, ok: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			raw, err := b.issuer.Mint(testUser)
			require.NoError(t, err)
			*b.now = testNow.Add(c.after)
			_, err = b.verifier.Verify(raw)
			if c.ok {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, ErrInvalid)
			if c.expired {
				require.ErrorIs(t, err, ErrExpired)
			} else {
				require.NotErrorIs(t, err, ErrExpired)
			}
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := setup(t)
	header := map[string]any{"typ": Type, "kid": KeyID(PublicKey(b.key))}
	public := []byte(PublicKey(b.key))
	good := forge(t, jwt.SigningMethodEdDSA, b.key, header, goodPayload())
	_, err := b.verifier.Verify(good)
	require.NoError(t, err, "the base of the cases below")
	parts := strings.Split(good, ".")
	eddsa := func(payload map[string]any) string {
		return forge(t, jwt.SigningMethodEdDSA, b.key, header, payload)
	}

	for name, raw := range map[string]string{
		"empty":                       "",
		"garbage":                     "not a token",
		"two parts":                   parts[0] + "." + parts[1],
		"no signature":                parts[0] + "." + parts[1] + ".",
		"another payload":             parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"system:operator"}`)) + "." + parts[2],
		"too long":                    good + strings.Repeat("A", maxToken),
		"padded signature":            good + "==",
		"alg none":                    forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, header, goodPayload()),
		"HS256 with the public key":   forge(t, jwt.SigningMethodHS256, public, header, goodPayload()),
		"signed by another key":       forge(t, jwt.SigningMethodEdDSA, other.key, header, goodPayload()),
		"another key's kid":           forge(t, jwt.SigningMethodEdDSA, b.key, map[string]any{"typ": Type, "kid": KeyID(PublicKey(other.key))}, goodPayload()),
		"no kid":                      forge(t, jwt.SigningMethodEdDSA, b.key, map[string]any{"typ": Type}, goodPayload()),
		"kid of another type":         forge(t, jwt.SigningMethodEdDSA, b.key, map[string]any{"typ": Type, "kid": 7}, goodPayload()),
		"typ JWT":                     forge(t, jwt.SigningMethodEdDSA, b.key, map[string]any{"typ": "JWT", "kid": header["kid"]}, goodPayload()),
		"another issuer":              eddsa(with(goodPayload(), "iss", "elsewhere")),
		"no issuer":                   eddsa(with(goodPayload(), "iss", nil)),
		"another audience":            eddsa(with(goodPayload(), "aud", "elsewhere")),
		"no audience":                 eddsa(with(goodPayload(), "aud", nil)),
		"no expiry":                   eddsa(with(goodPayload(), "exp", nil)),
		"no issue time":               eddsa(with(goodPayload(), "iat", nil)),
		"no id":                       eddsa(with(goodPayload(), "jti", nil)),
		"no subject":                  eddsa(with(goodPayload(), "sub", nil)),
		"a subject that is no UUID":   eddsa(with(goodPayload(), "sub", "ada")),
		"a subject in another form":   eddsa(with(goodPayload(), "sub", "{"+testUser.String()+"}")),
		"a nil subject":               eddsa(with(goodPayload(), "sub", uuid.Nil.String())),
		"a user with admin":           eddsa(with(goodPayload(), "admin", true)),
		"a user with service scope":   eddsa(with(goodPayload(), "scope", "service")),
		"a user with another scope":   eddsa(with(goodPayload(), "scope", "openid")),
		"a system without scope":      eddsa(with(goodPayload(), "sub", OperatorSubject)),
		"a system without name":       eddsa(with(with(goodPayload(), "sub", "system:"), "scope", "service")),
		"a payload that is not JSON":  parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte("}{")) + "." + parts[2],
		"an expiry that is no number": eddsa(with(goodPayload(), "exp", "soon")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := b.verifier.Verify(raw)
			require.ErrorIs(t, err, ErrInvalid)
			require.NotErrorIs(t, err, ErrExpired)
		})
	}
}

func TestVerifierKnowsSeveralKeys(t *testing.T) {
	t.Parallel()
	old, current := setup(t), setup(t)
	verifier := NewVerifier("atlas", "atlas-api", func() time.Time { return testNow }, PublicKey(old.key), PublicKey(current.key))
	for _, b := range []*testBundle{old, current} {
		raw, err := b.issuer.Mint(testUser)
		require.NoError(t, err)
		_, err = verifier.Verify(raw)
		require.NoError(t, err)
	}
	_, err := NewVerifier("atlas", "atlas-api", nil).Verify(forge(t, jwt.SigningMethodEdDSA, old.key, nil, goodPayload()))
	require.ErrorIs(t, err, ErrInvalid, "no keys, no tokens")
}

func FuzzVerify(f *testing.F) {
	b := setup(f)
	user, err := b.issuer.Mint(testUser)
	require.NoError(f, err)
	service, err := b.issuer.MintService(OperatorSubject, time.Minute)
	require.NoError(f, err)
	minted := map[string]bool{user: true, service: true}
	for _, seed := range []string{user, service, "", "..", "a.b.c", user + ".", strings.ToUpper(user)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := b.verifier.Verify(raw)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalid)
			require.Zero(t, got)
			return
		}
		require.True(t, minted[raw], "only what the issuer minted, byte for byte, may pass")
	})
}

func decodePart(t *testing.T, raw string, index int) map[string]any {
	t.Helper()
	content, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[index])
	require.NoError(t, err)
	var out map[string]any
	require.NoError(t, json.Unmarshal(content, &out))
	return out
}
