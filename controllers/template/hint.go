package template

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"syscall"
)

// wayOut is for an Elasticsearch that can't be reached at all.
const wayOut = ": check spec.elasticsearch.addresses, and that network policies and firewalls let the operator through"

// unreached says why there was no answer, and what to change, in the same words each time.
func unreached(err error) string {
	var (
		record  tls.RecordHeaderError
		unknown x509.UnknownAuthorityError
	)
	switch {
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "it does not speak TLS: write http:// in spec.elasticsearch.addresses, or name another port"
	case errors.As(err, &unknown):
		return "its certificate is of an unknown authority: name the one that signed it in spec.elasticsearch.caFrom"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "it closed the connection: if it wants TLS, write https:// in spec.elasticsearch.addresses"
	}
	return reason(err) + wayOut
}
