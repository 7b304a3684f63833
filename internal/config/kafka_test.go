package config_test

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/kafka"
)

func TestKafkaNamesWhatIsWrongWithItsSecurity(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file.pem")
	require.NoError(t, os.WriteFile(file, []byte("hunter2"), 0o600))
	for name, tc := range map[string]struct {
		with map[string]string
		want string
	}{
		"no key":            {map[string]string{"KAFKA_CERT_FILE": file}, "KAFKA_KEY_FILE is not set"},
		"no certificate":    {map[string]string{"KAFKA_KEY_FILE": file}, "KAFKA_CERT_FILE is not set"},
		"no such file":      {map[string]string{"KAFKA_CA_FILE": file + ".not"}, "KAFKA_CA_FILE can't be read"},
		"not a CA":          {map[string]string{"KAFKA_CA_FILE": file}, "KAFKA_CA_FILE: TLS for Kafka: the CA holds no certificate in PEM"},
		"not a certificate": {map[string]string{"KAFKA_CERT_FILE": file, "KAFKA_KEY_FILE": file}, "KAFKA_CERT_FILE: TLS for Kafka: the client certificate"},
		"mechanism":         {map[string]string{"KAFKA_SASL_MECHANISM": "GSSAPI"}, `KAFKA_SASL_MECHANISM="GSSAPI" is unknown: want PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER`},
		"no user":           {map[string]string{"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_PASSWORD": "hunter2"}, "KAFKA_SASL_USERNAME is required with KAFKA_SASL_MECHANISM=PLAIN"},
		"no password":       {map[string]string{"KAFKA_SASL_MECHANISM": "SCRAM-SHA-512", "KAFKA_SASL_USERNAME": "u"}, "KAFKA_SASL_PASSWORD is required"},
		"no client": {
			map[string]string{"KAFKA_SASL_MECHANISM": "OAUTHBEARER", "KAFKA_OAUTH_CLIENT_SECRET": "hunter2", "KAFKA_OAUTH_TOKEN_URL": "https://id/token"},
			"KAFKA_OAUTH_CLIENT_ID is required",
		},
		"no URL": {
			map[string]string{
				"KAFKA_SASL_MECHANISM": "OAUTHBEARER", "KAFKA_OAUTH_CLIENT_ID": "id", "KAFKA_OAUTH_CLIENT_SECRET": "hunter2", "KAFKA_OAUTH_TOKEN_URL": "id/token",
			},
			"KAFKA_OAUTH_TOKEN_URL is no http or https URL",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			with := map[string]string{"KAFKA_BROKERS": "a:1"}
			maps.Copy(with, tc.with)
			_, err := config.LoadFrom[config.Kafka](with)
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestKafkaSecuresItsClients(t *testing.T) {
	t.Parallel()
	cfg, err := config.LoadFrom[config.Kafka](map[string]string{
		"KAFKA_BROKERS": "a:1", "KAFKA_TLS": "true", "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512", "KAFKA_SASL_USERNAME": "u", "KAFKA_SASL_PASSWORD": "p",
	})
	require.NoError(t, err)
	settings := kafka.NewConfig("test")
	require.NoError(t, cfg.Secure(settings))
	require.NoError(t, settings.Validate())
	require.True(t, settings.Net.TLS.Enable)
	require.True(t, settings.Net.SASL.Enable)

	plain := config.Kafka{}
	settings = kafka.NewConfig("test")
	require.NoError(t, plain.Secure(settings))
	require.False(t, settings.Net.TLS.Enable)
	require.False(t, settings.Net.SASL.Enable)
}
