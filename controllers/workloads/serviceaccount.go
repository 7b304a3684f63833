package workloads

import (
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// ServiceAccount is the identity of a role. It has no permissions, and its pods get no token.
func ServiceAccount(stack *v1alpha1.AtlasStack, role Role) *corev1ac.ServiceAccountApplyConfiguration {
	return corev1ac.ServiceAccount(Name(stack, role), stack.Namespace).
		WithLabels(Labels(stack, role)).
		WithOwnerReferences(owner(stack)).
		WithAutomountServiceAccountToken(false)
}
