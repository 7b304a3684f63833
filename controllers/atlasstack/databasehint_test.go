package atlasstack_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// TestAMigrationThatCantReachTheDatabaseSaysWhatToDo, and names the Secret and its key, never what is in it. The errors are those of the client and of a server.
func TestAMigrationThatCantReachTheDatabaseSaysWhatToDo(t *testing.T) {
	t.Parallel()
	const unreachable = "check host and port in key url of Secret postgres, and that the database runs and that network policies and firewalls let the migration's pod through"
	b := newBundle(t)
	b.create()
	job := b.migration()
	for _, tc := range []struct{ says, wayOut string }{
		{
			"db:5432 (10.0.0.1): failed SASL auth: FATAL: password authentication failed for user \\\"atlas\\\" (SQLSTATE 28P01)",
			"correct the user and password in key url of Secret postgres",
		},
		{"db:5432 (10.0.0.1): server error: FATAL: database \\\"gonedb\\\" does not exist (SQLSTATE 3D000)", "create that database, or correct its name in key url of Secret postgres"},
		{"db:5432 (10.0.0.1): dial error: dial tcp 10.0.0.1:5432: connect: connection refused", unreachable},
		{"db:5432 (10.0.0.1): dial error: dial tcp 10.0.0.1:5432: i/o timeout", unreachable},
		{"db:5432 (10.0.0.1): dial error: timeout: context deadline exceeded", unreachable},
		{"hostname resolving error: lookup db on 10.0.0.10:53: no such host", "correct the host in key url of Secret postgres"},
		{"db:5432 (10.0.0.1): tls error: server refused TLS connection", "turn TLS on at the server, or write sslmode=disable in key url of Secret postgres"},
		{"db:5432 (10.0.0.1): tls error: tls: failed to verify certificate: x509: certificate signed by unknown authority", "name the authority that signed the server's certificate in spec.postgres.caFrom"},
		{"db:5432 (10.0.0.1): tls error: tls: failed to verify certificate: x509: certificate is valid for pg, not db", "write a host that the server's certificate is for"},
		{
			"db:5432 (10.0.0.1): server error: FATAL: no pg_hba.conf entry for host \\\"10.0.0.2\\\", user \\\"atlas\\\", database \\\"atlas\\\", no encryption (SQLSTATE 28000)",
			"let the user in by the server's pg_hba.conf or, if it asks for encryption, write sslmode=require in key url of Secret postgres",
		},
	} {
		require.NoError(t, b.client.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace(b.namespace), client.GracePeriodSeconds(0)))
		b.addPod(workloads.RoleMigrate, map[string]string{batchv1.ControllerUidLabel: string(job.UID)}, corev1.ContainerStatus{
			State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				ExitCode: 1, Reason: "Error",
				Message: `{"level":"ERROR","msg":"stopped","error":"reach the database: failed to connect to ` + "`user=atlas database=atlas`: " + tc.says + `"}` + "\n",
			}},
		})
		b.touch()
		b.condition(v1alpha1.ConditionMigrationsApplied, metav1.ConditionFalse, v1alpha1.ReasonFailed, ": "+tc.wayOut)
	}
}
