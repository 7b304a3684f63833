package kafkatest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// Secured is the address of the real broker's secured listener, and how it is reached but for a login. The test is skipped where Kafka was given.
func Secured(t testing.TB) ([]string, kafka.Security) {
	t.Helper()
	brokers := os.Getenv(testenv.SecuredBrokers)
	if brokers == "" && os.Getenv(testenv.KafkaBrokers) != "" {
		t.Skip("the Kafka that was given has no listener with TLS and SASL that tests know of")
	}
	brokers = testenv.Require(t, testenv.SecuredBrokers)
	read := func(name string) []byte {
		content, err := os.ReadFile(filepath.Join(testenv.Require(t, testenv.SecuredCertificates), name))
		require.NoError(t, err)
		return content
	}
	return strings.Split(brokers, ","), kafka.Security{TLS: true, CA: read("ca.pem"), Certificate: read("client.pem"), Key: read("client.key")}
}
