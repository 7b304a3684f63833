package workloads

import (
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	batchv1ac "k8s.io/client-go/applyconfigurations/batch/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/internal/exitcode"
)

// migrationTTL is how long a finished Job stays for someone to look at it. Its outcome is in the stack's status before.
const migrationTTL = 24 * 60 * 60

// MigrationName is the name of the Job for inputs with this digest, as MigrationInputs gives it.
func MigrationName(stack *v1alpha1.AtlasStack, digest string) string {
	return Name(stack, RoleMigrate) + "-" + digest[:10]
}

// MigrationJob is the Job that migrates the database, the attempt-th one with these inputs. Its name comes from the
// inputs, so a stale cache can't start it twice.
func MigrationJob(stack *v1alpha1.AtlasStack, inputs Inputs, digest string, attempt int) *batchv1ac.JobApplyConfiguration {
	spec, container := pod(stack, RoleMigrate, inputs)
	spec.WithRestartPolicy(corev1.RestartPolicyNever).WithContainers(container)
	job := batchv1ac.JobSpec().
		WithTTLSecondsAfterFinished(migrationTTL).
		// That the database is ahead of the image is not going to change by another try.
		WithPodFailurePolicy(batchv1ac.PodFailurePolicy().WithRules(batchv1ac.PodFailurePolicyRule().
			WithAction(batchv1.PodFailurePolicyActionFailJob).
			WithOnExitCodes(batchv1ac.PodFailurePolicyOnExitCodesRequirement().
				WithContainerName(ContainerName).WithOperator(batchv1.PodFailurePolicyOnExitCodesOpIn).WithValues(exitcode.SchemaAhead)))).
		WithTemplate(corev1ac.PodTemplateSpec().WithLabels(Labels(stack, RoleMigrate)).WithSpec(spec))
	if limit := stack.Spec.Migration.BackoffLimit; limit != nil {
		job.WithBackoffLimit(*limit)
	}
	if timeout := stack.Spec.Migration.TimeoutSeconds; timeout != nil {
		job.WithActiveDeadlineSeconds(*timeout)
	}
	return batchv1ac.Job(MigrationName(stack, digest), stack.Namespace).
		WithLabels(Labels(stack, RoleMigrate)).
		WithAnnotations(map[string]string{AttemptAnnotation: strconv.Itoa(attempt)}).
		WithOwnerReferences(owner(stack)).
		WithSpec(job)
}
