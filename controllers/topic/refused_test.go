package topic_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/topic"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
)

// TestALoginThatARealBrokerRefuses is told as one, not as a broker that can't be reached, with what to correct.
func TestALoginThatARealBrokerRefuses(t *testing.T) {
	t.Parallel()
	brokers, good := kafkatest.Secured(t)
	good.Mechanism, good.Username, good.Password = "PLAIN", "atlas", "only-for-tests"
	admin, err := topic.ConnectSarama(t.Context(), topic.Target{Brokers: brokers, Security: good})
	require.NoError(t, err)
	require.NoError(t, admin.Close())
	const login = "does not take the login (Authentication failed"
	for name, tc := range map[string]struct {
		change    func(*kafka.Security)
		says, fix string
	}{
		"PLAIN":         {func(s *kafka.Security) { s.Password = "wrong" }, login, "correct the Secret that spec.kafka.sasl.credentialsSecretRef names"},
		"SCRAM-SHA-256": {func(s *kafka.Security) { s.Mechanism = "SCRAM-SHA-256" }, login, "correct the Secret that spec.kafka.sasl.credentialsSecretRef names"},
		"SCRAM-SHA-512": {func(s *kafka.Security) { s.Mechanism = "SCRAM-SHA-512" }, login, "correct the Secret that spec.kafka.sasl.credentialsSecretRef names"},
		// The broker says why and closes the connection; that can be faster than what it says.
		"no certificate": {func(s *kafka.Security) { s.Certificate, s.Key = nil, nil }, "Kafka at " + strings.Join(brokers, ", "), "spec.kafka.tls.clientCertificateSecretRef"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			security := good
			tc.change(&security)
			twice := slices.Repeat(brokers, 2)
			_, err := topic.ConnectSarama(t.Context(), topic.Target{Brokers: twice, Security: security})
			waiting, ok := apply.AsWaiting(err)
			require.True(t, ok, "%v", err)
			require.NotContains(t, waiting.Message, "\n", "what each broker says is said once")
			require.Contains(t, waiting.Message, tc.says)
			require.Contains(t, waiting.Message, tc.fix)
			if tc.says == login {
				require.Equal(t, v1alpha1.ReasonRefused, waiting.Reason)
				require.False(t, waiting.Lost, "the server is there")
			}
		})
	}
}
