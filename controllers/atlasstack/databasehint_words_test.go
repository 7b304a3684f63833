package atlasstack

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

func TestDatabaseHint(t *testing.T) {
	t.Parallel()
	ref := corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "pg"}, Key: "uri"}
	plain, proxied := &v1alpha1.PostgresSpec{URLSecretRef: ref}, &v1alpha1.PostgresSpec{URLSecretRef: ref, CloudSQL: &v1alpha1.CloudSQLSpec{IAMAuthentication: true}}
	for why, want := range map[string]string{
		"": "",
		"it can't be pulled (dial tcp: lookup registry.example.com: no such host): correct spec.image, or spec.imagePullSecrets": "",
		"dial tcp 10.0.0.1:9092: connect: connection refused":                                                                    "",
		"the database has schema version 9, and this release knows 8 at most":                                                    "",
		"migrate the database: ERROR: permission denied for schema public (SQLSTATE 42501)":                                      "grant the user in key uri of Secret pg the right, or make it the owner of the database",
		"parse DATABASE_URL: it has no host":                                                                                     "correct key uri of Secret pg",
		// A client that may do without TLS has tried with it before.
		"reach the database: failed to connect: tls error: server refused TLS connection; password authentication failed (SQLSTATE 28P01)": "correct the user and password in key uri of Secret pg",
	} {
		require.Equal(t, want, databaseHint(plain, why), why)
	}
	require.Contains(t, databaseHint(proxied, "reach the database: connection refused"), "spec.postgres.cloudSQL")
	require.Contains(t, databaseHint(proxied, "reach the database: (SQLSTATE 28P01)"), "make the identity in spec.serviceAccountAnnotations a user of the database")
}
