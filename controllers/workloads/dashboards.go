package workloads

import (
	_ "embed" // the dashboards
	"maps"

	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

//go:embed dashboards/atlas-overview.json
var overview string

// DashboardsName is the name of the ConfigMap with the dashboards.
func DashboardsName(stack *v1alpha1.AtlasStack) string { return stack.Name + "-dashboards" }

// Dashboards is a ConfigMap with dashboards for Grafana, or nil. The dashboards are the same for every stack, and choose among them.
func Dashboards(stack *v1alpha1.AtlasStack) *corev1ac.ConfigMapApplyConfiguration {
	from := stack.Spec.Observability.Dashboards
	if from == nil {
		return nil
	}
	labels := maps.Clone(from.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, sharedLabels(stack))
	return corev1ac.ConfigMap(DashboardsName(stack), stack.Namespace).
		WithLabels(labels).
		WithOwnerReferences(owner(stack)).
		WithData(map[string]string{"atlas-overview.json": overview})
}
