package workloads

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// containerName is the only container of every pod.
const containerName = "atlas"

// pod is the part of a pod that all roles share. It meets the restricted Pod Security Standard.
func pod(stack *v1alpha1.AtlasStack, role Role, secrets Secrets) (*corev1ac.PodSpecApplyConfiguration, *corev1ac.ContainerApplyConfiguration) {
	container := corev1ac.Container().
		WithName(containerName).
		WithImage(stack.Spec.Image).
		WithArgs(string(role)).
		WithEnv(environment(stack, role, secrets)...).
		// The last lines of the log become the termination message when the role left none, and so reach the conditions.
		WithTerminationMessagePolicy(corev1.TerminationMessageFallbackToLogsOnError).
		WithSecurityContext(corev1ac.SecurityContext().
			WithAllowPrivilegeEscalation(false).
			WithReadOnlyRootFilesystem(true).
			WithCapabilities(corev1ac.Capabilities().WithDrop("ALL")))
	if stack.Spec.ImagePullPolicy != "" {
		container.WithImagePullPolicy(stack.Spec.ImagePullPolicy)
	}
	spec := corev1ac.PodSpec().
		WithServiceAccountName(Name(stack, role)).
		WithAutomountServiceAccountToken(false).
		// Variables for every Service of the namespace would add to the environment that the role validates.
		WithEnableServiceLinks(false).
		WithSecurityContext(corev1ac.PodSecurityContext().
			WithRunAsNonRoot(true).
			WithRunAsUser(userID).
			WithRunAsGroup(userID).
			// Mounted Secrets belong to root; the group makes them readable.
			WithFSGroup(userID).
			WithSeccompProfile(corev1ac.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault)))
	for _, secret := range stack.Spec.ImagePullSecrets {
		spec.WithImagePullSecrets(corev1ac.LocalObjectReference().WithName(secret.Name))
	}
	return spec, container
}

// mountSecret mounts one key of a Secret as dir/file. A whole folder is mounted, because a single file would never be updated.
func mountSecret(spec *corev1ac.PodSpecApplyConfiguration, container *corev1ac.ContainerApplyConfiguration, volume string, from SecretKey, dir, file string) {
	spec.WithVolumes(corev1ac.Volume().WithName(volume).WithSecret(corev1ac.SecretVolumeSource().
		WithSecretName(from.Name).
		WithDefaultMode(0o440).
		WithItems(corev1ac.KeyToPath().WithKey(from.Key).WithPath(file))))
	container.WithVolumeMounts(corev1ac.VolumeMount().WithName(volume).WithMountPath(dir).WithReadOnly(true))
}

// mountTemporary gives a container, whose root file system is read-only, a folder for temporary files that goes with the pod.
func mountTemporary(spec *corev1ac.PodSpecApplyConfiguration, container *corev1ac.ContainerApplyConfiguration, limit string) {
	spec.WithVolumes(corev1ac.Volume().WithName("tmp").WithEmptyDir(corev1ac.EmptyDirVolumeSource().WithSizeLimit(resource.MustParse(limit))))
	container.WithVolumeMounts(corev1ac.VolumeMount().WithName("tmp").WithMountPath("/tmp"))
}

func probe(path string, period, timeout, failures int32) *corev1ac.ProbeApplyConfiguration {
	return corev1ac.Probe().
		WithHTTPGet(corev1ac.HTTPGetAction().WithPath(path).WithPort(intstr.FromString("ops"))).
		WithPeriodSeconds(period).WithTimeoutSeconds(timeout).WithFailureThreshold(failures)
}
