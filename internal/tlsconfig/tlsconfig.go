// Package tlsconfig makes the TLS settings of clients from certificates in PEM.
package tlsconfig

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// Errors of Client.
var (
	ErrCA          = errors.New("the CA holds no certificate in PEM")
	ErrCertificate = errors.New("the client certificate can't be used")
)

// Client returns the settings of a client that trusts the CA alone, or the system's CAs without one, and shows a certificate if it has one.
func Client(ca, certificate, key []byte) (*tls.Config, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(ca) > 0 {
		settings.RootCAs = x509.NewCertPool()
		if !settings.RootCAs.AppendCertsFromPEM(ca) {
			return nil, ErrCA
		}
	}
	if len(certificate) > 0 || len(key) > 0 {
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
		}
		settings.Certificates = []tls.Certificate{pair}
	}
	return settings, nil
}
