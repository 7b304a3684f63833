package topic

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/IBM/sarama"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/internal/kafka"
)

// wayOut is for brokers that can't be reached at all.
const wayOut = ": check spec.kafka.brokers, and that network policies and firewalls let the operator through"

// failedToConnect says why no session could be begun with brokers that accept connections, and what to change. It leaves out what differs between attempts: a broker
// that closes a connection may do so with a reset or without.
func failedToConnect(err error, security *kafka.Security) string {
	var (
		record  tls.RecordHeaderError
		verify  *tls.CertificateVerificationError
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		op      *net.OpError
	)
	certificate := ""
	if len(security.Certificate) == 0 {
		certificate = "; if it wants a client certificate, name its Secret in spec.kafka.tls.clientCertificateSecretRef"
	}
	closed := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	switch {
	case security.TLS && errors.As(err, &record), security.TLS && closed:
		return "the broker ended the TLS handshake: if its listener is a plaintext one, name another in spec.kafka.brokers, or remove spec.kafka.tls" + certificate
	case errors.As(err, &unknown):
		return "the broker's certificate is of an unknown authority: name the one that signed it in spec.kafka.tls.caFrom"
	case errors.As(err, &name):
		return "the broker's certificate is for another name: write a name that it holds in spec.kafka.brokers (" + name.Error() + ")"
	case errors.As(err, &verify):
		return verify.Error() + ": mend the broker's certificate, or correct spec.kafka.tls.caFrom"
	case closed && security.Mechanism == "":
		return "the broker closed the connection: if its listener wants TLS or a login, set spec.kafka.tls or spec.kafka.sasl, or name another in spec.kafka.brokers"
	case closed:
		return "the broker closed the connection: if its listener wants TLS, set spec.kafka.tls, or name another in spec.kafka.brokers"
	case errors.As(err, &op):
		return reason(err) + wayOut
	}
	return reason(err)
}

// refusedLogin is what to correct when brokers were reached and do not take the credentials; nil for other errors.
func refusedLogin(target Target, err error) error {
	at := "Kafka at " + strings.Join(target.Brokers, ", ") + " does not take "
	refused := func(message string) error {
		return &apply.Waiting{Reason: v1alpha1.ReasonRefused, Message: at + message, After: retryRefused}
	}
	var op *net.OpError
	switch failed := sarama.ErrSASLAuthenticationFailed; {
	case errors.Is(err, failed): // errors.As does not find it: what the broker says is in its place
		says := ""
		if _, why, found := strings.Cut(err.Error(), failed.Error()+": "); found {
			why, _, _ = strings.Cut(why, "\n") // each broker says so
			says = " (" + why + ")"
		}
		return refused("the login" + says + ": correct the Secret that spec.kafka.sasl.credentialsSecretRef names")
	case errors.As(err, &op) && op.Op == "remote error" && strings.Contains(op.Err.Error(), "certificate"):
		return refused("the client's certificate (" + op.Err.Error() + "): correct the Secret that spec.kafka.tls.clientCertificateSecretRef names, or set it")
	}
	return nil
}
