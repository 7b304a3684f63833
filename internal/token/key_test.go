package token

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKeyIDIsTheThumbprintOfRFC8037(t *testing.T) {
	t.Parallel()
	// RFC 8037, appendix A.3.
	public, err := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	require.NoError(t, err)
	require.Equal(t, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", KeyID(ed25519.PublicKey(public)))
}

func TestLoadSigningKey(t *testing.T) {
	t.Parallel()
	content, err := GenerateSigningKey()
	require.NoError(t, err)
	want, err := ParseSigningKey(content)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "signing-key.pem")
	require.NoError(t, os.WriteFile(path, content, 0o600))

	got, err := LoadSigningKey(path)
	require.NoError(t, err)
	require.True(t, want.Equal(got))

	_, err = LoadSigningKey(path + ".absent")
	require.ErrorIs(t, err, os.ErrNotExist)

	require.NoError(t, os.WriteFile(path, make([]byte, maxKeyFile+1), 0o600))
	_, err = LoadSigningKey(path)
	require.ErrorIs(t, err, ErrKey)
	require.ErrorContains(t, err, "larger than")
}

func TestParseSigningKeySaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	good, err := GenerateSigningKey()
	require.NoError(t, err)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ecPKCS8, err := x509.MarshalPKCS8PrivateKey(ec)
	require.NoError(t, err)
	ecSEC1, err := x509.MarshalECPrivateKey(ec)
	require.NoError(t, err)
	block := func(kind string, content []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
	}

	for name, c := range map[string]struct {
		content []byte
		says    string
	}{
		"nothing":              {nil, "empty"},
		"white space":          {[]byte(" \n"), "empty"},
		"not PEM":              {[]byte("hello"), "not PEM"},
		"an older EC form":     {block("EC PRIVATE KEY", ecSEC1), `"EC PRIVATE KEY"`},
		"an encrypted key":     {block("ENCRYPTED PRIVATE KEY", []byte("x")), "unencrypted PKCS #8"},
		"not PKCS #8 inside":   {block(pemType, []byte("junk")), "not PKCS #8"},
		"an ECDSA key":         {block(pemType, ecPKCS8), "*ecdsa.PrivateKey, not an Ed25519"},
		"two keys in one file": {append(append([]byte{}, good...), good...), "more after the first"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseSigningKey(c.content)
			require.ErrorIs(t, err, ErrKey)
			require.ErrorContains(t, err, c.says)
		})
	}
}
