package workloads

import (
	"path"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// ContainerName is the role's container in every pod.
const ContainerName = "atlas"

// pod is the part of a pod that all roles share. It meets the restricted Pod Security Standard.
func pod(stack *v1alpha1.AtlasStack, role Role, inputs Inputs) (*corev1ac.PodSpecApplyConfiguration, *corev1ac.ContainerApplyConfiguration) {
	container := corev1ac.Container().
		WithName(ContainerName).
		WithImage(stack.Spec.Image).
		WithArgs(string(role)).
		WithEnv(environment(stack, role, inputs)...).
		// The last lines of the log become the termination message when the role left none, and so reach the conditions.
		WithTerminationMessagePolicy(corev1.TerminationMessageFallbackToLogsOnError).
		WithSecurityContext(hardened())
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
	mount(spec, container, usedBy(stack, role, inputs))
	connectCloudSQL(spec, stack)
	return spec, container
}

// hardened is the security context of every container.
func hardened() *corev1ac.SecurityContextApplyConfiguration {
	return corev1ac.SecurityContext().
		WithAllowPrivilegeEscalation(false).
		WithReadOnlyRootFilesystem(true).
		WithCapabilities(corev1ac.Capabilities().WithDrop("ALL"))
}

// resources are requests and limits; nil when there are none.
func resources(want corev1.ResourceRequirements) *corev1ac.ResourceRequirementsApplyConfiguration {
	if want.Limits == nil && want.Requests == nil {
		return nil
	}
	out := corev1ac.ResourceRequirements()
	if want.Limits != nil {
		out.WithLimits(want.Limits)
	}
	if want.Requests != nil {
		out.WithRequests(want.Requests)
	}
	return out
}

// mountKey mounts one key of a Secret or ConfigMap as a file. A whole folder is mounted, because a single file would never be updated.
func mountKey(spec *corev1ac.PodSpecApplyConfiguration, container *corev1ac.ContainerApplyConfiguration, ref Reference, file string) {
	dir, name := path.Split(file)
	volume, item := corev1ac.Volume().WithName(string(ref.Input)), corev1ac.KeyToPath().WithKey(ref.Key).WithPath(name)
	if ref.ConfigMap {
		volume.WithConfigMap(corev1ac.ConfigMapVolumeSource().WithName(ref.Name).WithDefaultMode(0o440).WithItems(item))
	} else {
		volume.WithSecret(corev1ac.SecretVolumeSource().WithSecretName(ref.Name).WithDefaultMode(0o440).WithItems(item))
	}
	spec.WithVolumes(volume)
	container.WithVolumeMounts(corev1ac.VolumeMount().WithName(string(ref.Input)).WithMountPath(path.Clean(dir)).WithReadOnly(true))
}

// mountTemporary gives a container, whose root file system is read-only, a folder for temporary files that goes with the pod.
func mountTemporary(spec *corev1ac.PodSpecApplyConfiguration, container *corev1ac.ContainerApplyConfiguration, limit string) {
	spec.WithVolumes(corev1ac.Volume().WithName("tmp").WithEmptyDir(corev1ac.EmptyDirVolumeSource().WithSizeLimit(resource.MustParse(limit))))
	container.WithVolumeMounts(corev1ac.VolumeMount().WithName("tmp").WithMountPath("/tmp"))
}

// mountObjects gives the roles that need it the volume with the files.
func mountObjects(spec *corev1ac.PodSpecApplyConfiguration, container *corev1ac.ContainerApplyConfiguration, store *v1alpha1.ObjectStoreSpec, role Role) {
	if store == nil || store.VolumeClaimName == "" || !usesObjects(role) {
		return
	}
	spec.WithVolumes(corev1ac.Volume().WithName("objects").WithPersistentVolumeClaim(
		corev1ac.PersistentVolumeClaimVolumeSource().WithClaimName(store.VolumeClaimName)))
	container.WithVolumeMounts(corev1ac.VolumeMount().WithName("objects").WithMountPath(objectsDir))
}

func probe(path string, period, timeout, failures int32) *corev1ac.ProbeApplyConfiguration {
	return corev1ac.Probe().
		WithHTTPGet(corev1ac.HTTPGetAction().WithPath(path).WithPort(intstr.FromString("ops"))).
		WithPeriodSeconds(period).WithTimeoutSeconds(timeout).WithFailureThreshold(failures)
}
