package api_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/token"
	"github.com/atlas-platform/atlas/services/api"
)

func keyFile(t *testing.T, key ed25519.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	return path
}

func (b *testBundle) keyIDs() []string {
	b.t.Helper()
	a := b.call(nil, "GET", "/.well-known/jwks.json", nil).is(200)
	require.Equal(b.t, "public, max-age=300", a.header.Get("Cache-Control"))
	require.NotContains(b.t, string(a.raw), `"d"`)
	var ids []string
	for _, key := range a.body["keys"].([]any) {
		key := key.(map[string]any)
		require.Equal(b.t, []any{"OKP", "Ed25519", "sig", "EdDSA"}, []any{key["kty"], key["crv"], key["use"], key["alg"]})
		require.Len(b.t, key["x"], 43)
		ids = append(ids, key["kid"].(string))
	}
	return ids
}

// TestKeysChange has a replica with a new key accept what one with the old key has signed.
func TestKeysChange(t *testing.T) {
	t.Parallel()
	before := setup(t)
	id := func(b *testBundle) string { return token.KeyID(token.PublicKey(b.key)) }
	require.Equal(t, []string{id(before)}, before.keyIDs())
	after := setupWith(t, before.pool, nil, func(c *api.Config) { c.PreviousKeyFile = keyFile(t, before.key) })
	require.Equal(t, []string{id(after), id(before)}, after.keyIDs())

	ada := before.withPassword("ada")
	old := before.login(ada)
	before.login(ada)
	after.call(&old.account, "GET", "/v1/me", nil).is(200)
	cursor := before.call(&old.account, "GET", "/v1/sessions?limit=1", nil).is(200).body["next_cursor"].(string)
	after.call(&old.account, "GET", "/v1/sessions?limit=1&cursor="+cursor, nil).is(200)
	fresh := after.refresh(old.refresh).pair()
	after.call(&fresh.account, "GET", "/v1/me", nil).is(200)
	before.call(&fresh.account, "GET", "/v1/me", nil).problem(401, "unauthenticated")

	done := setupWith(t, before.pool, nil)
	done.call(&old.account, "GET", "/v1/me", nil).problem(401, "unauthenticated")
}

func TestUnusablePreviousKeyIsNamed(t *testing.T) {
	t.Parallel()
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	_, err = api.NewHandler(api.Config{PreviousKeyFile: filepath.Join(t.TempDir(), "none")}, api.Deps{SigningKey: key})
	require.ErrorContains(t, err, "JWT_PREVIOUS_KEY_FILE")
}
