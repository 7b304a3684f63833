package workloads

import (
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	policyv1ac "k8s.io/client-go/applyconfigurations/policy/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// PodDisruptionBudget bounds how many pods of a role are evicted at the same time. A pod that is not ready may always be: a role that can't start must
// not hold up the drain of its node.
func PodDisruptionBudget(stack *v1alpha1.AtlasStack, role Role) *policyv1ac.PodDisruptionBudgetApplyConfiguration {
	spec := policyv1ac.PodDisruptionBudgetSpec().
		WithSelector(metav1ac.LabelSelector().WithMatchLabels(selector(stack, role))).
		WithUnhealthyPodEvictionPolicy(policyv1.AlwaysAllow)
	budget := Component(stack, role).PodDisruptionBudget
	switch {
	case budget != nil && budget.MinAvailable != nil:
		spec.WithMinAvailable(*budget.MinAvailable)
	case budget != nil && budget.MaxUnavailable != nil:
		spec.WithMaxUnavailable(*budget.MaxUnavailable)
	default:
		spec.WithMaxUnavailable(intstr.FromInt32(1))
	}
	return policyv1ac.PodDisruptionBudget(Name(stack, role), stack.Namespace).
		WithLabels(Labels(stack, role)).
		WithOwnerReferences(owner(stack)).
		WithSpec(spec)
}
