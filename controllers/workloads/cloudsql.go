package workloads

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// connectorPort answers the probes of the Cloud SQL Auth Proxy.
const connectorPort = 9801

// connectCloudSQL runs the Cloud SQL Auth Proxy beside the role, which finds its database on 127.0.0.1:5432. As a native sidecar it is up before the role starts,
// ends after it, and does not keep the migration's Job from ending.
func connectCloudSQL(spec *corev1ac.PodSpecApplyConfiguration, stack *v1alpha1.AtlasStack) {
	sql := stack.Spec.Postgres.CloudSQL
	if sql == nil {
		return
	}
	args := []string{
		"--structured-logs", "--address=127.0.0.1", "--port=5432", "--health-check", "--http-address=0.0.0.0", "--http-port=9801", "--exit-zero-on-sigterm",
	}
	if sql.PrivateIP {
		args = append(args, "--private-ip")
	}
	if sql.IAMAuthentication {
		args = append(args, "--auto-iam-authn")
	}
	container := corev1ac.Container().
		WithName("cloud-sql-proxy").
		WithImage(sql.Image).
		WithArgs(append(args, sql.InstanceConnectionName)...).
		WithRestartPolicy(corev1.ContainerRestartPolicyAlways).
		WithPorts(corev1ac.ContainerPort().WithName("sql-health").WithContainerPort(connectorPort)).
		// A native sidecar's startup probe is what the role waits for.
		WithStartupProbe(corev1ac.Probe().
			WithHTTPGet(corev1ac.HTTPGetAction().WithPath("/startup").WithPort(intstr.FromString("sql-health"))).
			WithPeriodSeconds(1).WithTimeoutSeconds(3).WithFailureThreshold(60)).
		WithLivenessProbe(corev1ac.Probe().
			WithHTTPGet(corev1ac.HTTPGetAction().WithPath("/liveness").WithPort(intstr.FromString("sql-health"))).
			WithPeriodSeconds(10).WithTimeoutSeconds(3).WithFailureThreshold(6)).
		WithTerminationMessagePolicy(corev1.TerminationMessageFallbackToLogsOnError).
		WithSecurityContext(hardened())
	if resources := resources(sql.Resources); resources != nil {
		container.WithResources(resources)
	}
	if stack.Spec.ImagePullPolicy != "" {
		container.WithImagePullPolicy(stack.Spec.ImagePullPolicy)
	}
	spec.WithInitContainers(container)
}
