package token

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

// pemType is the only PEM block type read and written: PKCS #8.
const pemType = "PRIVATE KEY"

// maxKeyFile bounds what LoadSigningKey reads. A real key has about 120 bytes; a larger file is the wrong file.
const maxKeyFile = 64 << 10

// ErrKey is wrapped by every error about a signing key that can't be used.
var ErrKey = errors.New("unusable signing key")

// LoadSigningKey reads an Ed25519 private key (PKCS #8, PEM) from a file.
func LoadSigningKey(path string) (ed25519.PrivateKey, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the signing key: %w", err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the signing key %s: %w", path, err)
	}
	if len(content) > maxKeyFile {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrKey, path, maxKeyFile)
	}
	key, err := ParseSigningKey(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// ParseSigningKey reads an Ed25519 private key from one PEM block with PKCS #8 inside. Its errors wrap ErrKey, say what was found instead, and
// never quote the input.
func ParseSigningKey(content []byte) (ed25519.PrivateKey, error) {
	if len(bytes.TrimSpace(content)) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrKey)
	}
	block, rest := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%w: it is not PEM", ErrKey)
	}
	if block.Type != pemType {
		return nil, fmt.Errorf("%w: the PEM block is %q, not %q (unencrypted PKCS #8)", ErrKey, block.Type, pemType)
	}
	if len(bytes.TrimSpace(rest)) != 0 {
		return nil, fmt.Errorf("%w: there is more after the first PEM block", ErrKey)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: it is not PKCS #8", ErrKey)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: it is a %T, not an Ed25519 private key", ErrKey, parsed)
	}
	return key, nil
}

// GenerateSigningKey makes a new Ed25519 private key in the form that ParseSigningKey reads.
func GenerateSigningKey() ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate a signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a signing key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), nil
}

// KeyID is the RFC 7638 thumbprint (SHA-256, base64url) of a public key. It is the `kid` of every token that the key's private half signs.
func KeyID(key ed25519.PublicKey) string {
	// RFC 7638 hashes the required members only, in lexical order and without white space; for an OKP key (RFC 8037) these three.
	jwk := `{"crv":"Ed25519","kty":"OKP","x":"` + base64.RawURLEncoding.EncodeToString(key) + `"}`
	sum := sha256.Sum256([]byte(jwk))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
