package workloads

import (
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// place says on which nodes a role's pods go, and before which others.
func place(spec *corev1ac.PodSpecApplyConfiguration, stack *v1alpha1.AtlasStack, role Role) error {
	component := Component(stack, role)
	if component.PriorityClassName != "" {
		spec.WithPriorityClassName(component.PriorityClassName)
	}
	for i := range component.TopologySpreadConstraints {
		constraint := &corev1ac.TopologySpreadConstraintApplyConfiguration{}
		if err := convert(&component.TopologySpreadConstraints[i], constraint); err != nil {
			return fmt.Errorf("convert topologySpreadConstraints[%d] of %s: %w", i, role, err)
		}
		if constraint.LabelSelector == nil {
			constraint.WithLabelSelector(metav1ac.LabelSelector().WithMatchLabels(selector(stack, role)))
			if len(constraint.MatchLabelKeys) == 0 {
				// Pods of the revision before are about to go, and would count where they are.
				constraint.WithMatchLabelKeys(appsv1.DefaultDeploymentUniqueLabelKey)
			}
		}
		spec.WithTopologySpreadConstraints(constraint)
	}
	return nil
}

// convert turns an object into its apply configuration: both have the same JSON, and what is not set stays so.
func convert(from, to any) error {
	body, err := json.Marshal(from)
	if err != nil {
		return fmt.Errorf("encode %T: %w", from, err)
	}
	if err := json.Unmarshal(body, to); err != nil {
		return fmt.Errorf("decode %T: %w", to, err)
	}
	return nil
}
