package workloads

import (
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// Service is the Service of a role: the REST API on port 80 for the API, and the ops port for all.
func Service(stack *v1alpha1.AtlasStack, role Role) *corev1ac.ServiceApplyConfiguration {
	spec := corev1ac.ServiceSpec().WithSelector(selector(stack, role))
	if role == RoleAPI {
		spec.WithPorts(corev1ac.ServicePort().WithName("http").WithPort(80).WithTargetPort(intstr.FromString("http")))
	}
	spec.WithPorts(corev1ac.ServicePort().WithName("ops").WithPort(opsPort).WithTargetPort(intstr.FromString("ops")))
	return corev1ac.Service(Name(stack, role), stack.Namespace).
		WithLabels(Labels(stack, role)).
		WithOwnerReferences(owner(stack)).
		WithSpec(spec)
}
