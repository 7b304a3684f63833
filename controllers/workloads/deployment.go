package workloads

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

const (
	// drainSeconds is longer than the roles' SHUTDOWN_TIMEOUT of 20 s.
	drainSeconds = 30
	// preStopSeconds lets proxies forget an API pod before it stops accepting connections.
	preStopSeconds = 5
	// temporarySpace holds the archives of as many imports as an API does at the same time, 8 of 256 MiB, and the directories of exports.
	temporarySpace = "3Gi"
)

// Component is the part of the spec that sizes a role.
func Component(stack *v1alpha1.AtlasStack, role Role) v1alpha1.ComponentSpec {
	switch role {
	case RoleAPI:
		return stack.Spec.API
	case RoleIndexer:
		return stack.Spec.Indexer
	case RoleAudit:
		return stack.Spec.Audit
	case RoleWorker:
		return stack.Spec.Worker
	case RoleMigrate:
	}
	return v1alpha1.ComponentSpec{}
}

// Replicas is how many pods a role is to have; nil where an autoscaler says so.
func Replicas(stack *v1alpha1.AtlasStack, role Role) *int32 {
	component := Component(stack, role)
	replicas := int32(1)
	switch {
	case stack.Spec.Hibernate:
		replicas = 0
	case component.Autoscaling != nil:
		return nil
	case component.Replicas != nil:
		replicas = *component.Replicas
	}
	return &replicas
}

// Deployment is the Deployment of a role.
func Deployment(stack *v1alpha1.AtlasStack, role Role, inputs Inputs) (*appsv1ac.DeploymentApplyConfiguration, error) {
	configHash, err := ConfigHash(stack, role, inputs)
	if err != nil {
		return nil, err
	}
	component := Component(stack, role)
	spec, container := pod(stack, role, inputs)
	container.
		WithPorts(corev1ac.ContainerPort().WithName("ops").WithContainerPort(opsPort)).
		WithStartupProbe(probe("/livez", 1, 3, 60)).
		WithLivenessProbe(probe("/livez", 10, 3, 3)).
		WithReadinessProbe(probe("/readyz", 5, 3, 2))
	if resources := resources(component.Resources); resources != nil {
		container.WithResources(resources)
	}
	mountObjects(spec, container, stack.Spec.ObjectStore, role)
	spec.WithTerminationGracePeriodSeconds(drainSeconds)
	strategy := appsv1ac.DeploymentStrategy().WithType(appsv1.RollingUpdateDeploymentStrategyType)
	if role == RoleAPI {
		container.WithPorts(corev1ac.ContainerPort().WithName("http").WithContainerPort(httpPort)).
			WithLifecycle(corev1ac.Lifecycle().WithPreStop(
				corev1ac.LifecycleHandler().WithSleep(corev1ac.SleepAction().WithSeconds(preStopSeconds))))
		mountTemporary(spec, container, temporarySpace)
		spec.WithTerminationGracePeriodSeconds(drainSeconds + preStopSeconds)
		strategy.WithRollingUpdate(appsv1ac.RollingUpdateDeployment().
			WithMaxUnavailable(intstr.FromInt32(0)).WithMaxSurge(intstr.FromInt32(1)))
	}
	if err := place(spec, stack, role); err != nil {
		return nil, err
	}
	template, err := override(stack, role, corev1ac.PodTemplateSpec().
		WithLabels(Labels(stack, role)).
		WithAnnotations(map[string]string{ConfigHashAnnotation: configHash}).
		WithSpec(spec.WithContainers(container)))
	if err != nil {
		return nil, err
	}
	deployment := appsv1ac.DeploymentSpec().
		WithRevisionHistoryLimit(3).
		WithStrategy(strategy).
		WithSelector(metav1ac.LabelSelector().WithMatchLabels(selector(stack, role))).
		WithTemplate(template)
	if replicas := Replicas(stack, role); replicas != nil {
		deployment.WithReplicas(*replicas)
	}
	return appsv1ac.Deployment(Name(stack, role), stack.Namespace).
		WithLabels(Labels(stack, role)).
		WithOwnerReferences(owner(stack)).
		WithSpec(deployment), nil
}
