package workloads

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// Service is the Service of a role: the REST API on port 80 for the API, and the ops port for all, unless the Service is reached from outside.
func Service(stack *v1alpha1.AtlasStack, role Role) *corev1ac.ServiceApplyConfiguration {
	service := newService(stack, role, Name(stack, role))
	if role == RoleAPI {
		service.Spec.WithPorts(corev1ac.ServicePort().WithName("http").WithPort(servicePort).WithTargetPort(intstr.FromString("http")))
		exposeService(&stack.Spec.Networking.Service, service)
		if public(stack) {
			return service
		}
	}
	service.Spec.WithPorts(opsServicePort())
	return service
}

// OpsServiceName is the name of the Service of the API's ops port, where there is one.
func OpsServiceName(stack *v1alpha1.AtlasStack) string { return Name(stack, RoleAPI) + "-ops" }

// OpsService has the API's ops port where the API's own Service is reached from outside the cluster, whom metrics don't concern. It is nil elsewhere.
func OpsService(stack *v1alpha1.AtlasStack) *corev1ac.ServiceApplyConfiguration {
	if !public(stack) {
		return nil
	}
	service := newService(stack, RoleAPI, OpsServiceName(stack))
	service.Spec.WithPorts(opsServicePort())
	return service
}

func newService(stack *v1alpha1.AtlasStack, role Role, name string) *corev1ac.ServiceApplyConfiguration {
	return corev1ac.Service(name, stack.Namespace).
		WithLabels(Labels(stack, role)).
		WithOwnerReferences(owner(stack)).
		WithSpec(corev1ac.ServiceSpec().WithSelector(selector(stack, role)))
}

func opsServicePort() *corev1ac.ServicePortApplyConfiguration {
	return corev1ac.ServicePort().WithName("ops").WithPort(opsPort).WithTargetPort(intstr.FromString("ops"))
}

// public is true when the API's Service has a port on the nodes.
func public(stack *v1alpha1.AtlasStack) bool {
	kind := stack.Spec.Networking.Service.Type
	return kind == corev1.ServiceTypeLoadBalancer || kind == corev1.ServiceTypeNodePort
}

func exposeService(from *v1alpha1.ServiceSpec, service *corev1ac.ServiceApplyConfiguration) {
	service.WithAnnotations(from.Annotations)
	if from.Type == "" {
		return
	}
	service.Spec.WithType(from.Type)
	if from.Type != corev1.ServiceTypeLoadBalancer {
		return
	}
	if from.LoadBalancerClass != nil {
		service.Spec.WithLoadBalancerClass(*from.LoadBalancerClass)
	}
	service.Spec.WithLoadBalancerSourceRanges(from.LoadBalancerSourceRanges...)
}
