package workloads

import (
	"maps"

	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// ServiceAccount is the identity of a role's pods. It has no permissions in the cluster; its annotations can give it some outside.
func ServiceAccount(stack *v1alpha1.AtlasStack, role Role) *corev1ac.ServiceAccountApplyConfiguration {
	account := corev1ac.ServiceAccount(Name(stack, role), stack.Namespace).
		WithLabels(Labels(stack, role)).
		WithOwnerReferences(owner(stack)).
		WithAutomountServiceAccountToken(false)
	if len(stack.Spec.ServiceAccountAnnotations) > 0 {
		account.WithAnnotations(maps.Clone(stack.Spec.ServiceAccountAnnotations))
	}
	return account
}
