package workloads

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	batchv1ac "k8s.io/client-go/applyconfigurations/batch/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// migrationTTL is how long a finished Job stays for someone to look at it. Its outcome is in the stack's status before.
const migrationTTL = 24 * 60 * 60

// MigrationName is the name of the Job for these inputs.
func MigrationName(stack *v1alpha1.AtlasStack, inputs string) string {
	return Name(stack, RoleMigrate) + "-" + inputs[:10]
}

// MigrationJob is the Job that migrates the database, the attempt-th one with these inputs. Its name comes from the
// inputs, so a stale cache can't start it twice.
func MigrationJob(stack *v1alpha1.AtlasStack, secrets Secrets, inputs string, attempt int) *batchv1ac.JobApplyConfiguration {
	spec, container := pod(stack, RoleMigrate, secrets)
	mountSecret(spec, container, "admin-password", AdminPassword(stack), adminDir, AdminPasswordKey)
	spec.WithRestartPolicy(corev1.RestartPolicyNever).WithContainers(container)
	job := batchv1ac.JobSpec().
		WithTTLSecondsAfterFinished(migrationTTL).
		WithTemplate(corev1ac.PodTemplateSpec().WithLabels(Labels(stack, RoleMigrate)).WithSpec(spec))
	if limit := stack.Spec.Migration.BackoffLimit; limit != nil {
		job.WithBackoffLimit(*limit)
	}
	if timeout := stack.Spec.Migration.TimeoutSeconds; timeout != nil {
		job.WithActiveDeadlineSeconds(*timeout)
	}
	return batchv1ac.Job(MigrationName(stack, inputs), stack.Namespace).
		WithLabels(Labels(stack, RoleMigrate)).
		WithAnnotations(map[string]string{AttemptAnnotation: strconv.Itoa(attempt)}).
		WithOwnerReferences(owner(stack)).
		WithSpec(job)
}
