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

// TestMigrationThatTookTooLong says why its pod did not start, although Kubernetes has removed that pod.
func TestMigrationThatTookTooLong(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.create()
	job := b.migration()
	b.addPod(workloads.RoleMigrate, map[string]string{batchv1.ControllerUidLabel: string(job.UID)}, corev1.ContainerStatus{
		Name: "migrate", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such image"}},
	})
	b.condition(v1alpha1.ConditionMigrationsApplied, metav1.ConditionFalse, v1alpha1.ReasonFailed, "is being retried")
	require.NoError(t, b.client.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace(b.namespace), client.GracePeriodSeconds(0)))
	b.endMigration(false, batchv1.JobReasonDeadlineExceeded)
	b.condition(v1alpha1.ConditionMigrationsApplied, metav1.ConditionFalse, v1alpha1.ReasonFailed, "longer than migration.timeoutSeconds")
	b.condition(v1alpha1.ConditionMigrationsApplied, metav1.ConditionFalse, v1alpha1.ReasonFailed, "can't be pulled (no such image): correct spec.image, or spec.imagePullSecrets)")
}
