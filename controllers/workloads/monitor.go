package workloads

import (
	"maps"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// prometheusDuration is d as Prometheus reads it, who knows no fractions.
func prometheusDuration(d time.Duration) string {
	if d%time.Second == 0 {
		return d.String()
	}
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}

// Monitor has Prometheus scrape every pod of the stack. It is nil when the stack asks for another kind, or for none.
func Monitor(stack *v1alpha1.AtlasStack, kind string) *unstructured.Unstructured {
	spec := stack.Spec.Observability.Monitor
	if spec == nil || spec.Kind != kind {
		return nil
	}
	labels := maps.Clone(spec.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, sharedLabels(stack))
	endpoint := map[string]any{"port": "ops", "path": "/metrics"}
	if spec.Interval != nil {
		endpoint["interval"] = prometheusDuration(spec.Interval.Duration)
	}
	monitor := optional(stack, MonitorKind(kind), stack.Name, labels)
	endpoints, target := "endpoints", "targetLabels"
	if kind == PodMonitor {
		endpoints, target = "podMetricsEndpoints", "podTargetLabels"
	}
	monitor.Object["spec"] = map[string]any{
		"selector": map[string]any{"matchLabels": map[string]any{StackLabel: stack.Name}},
		// The dashboards tell stacks and roles apart by these.
		target:    []any{StackLabel, ComponentLabel},
		endpoints: []any{endpoint},
	}
	return monitor
}
