package workloads

import (
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	autoscalingv2ac "k8s.io/client-go/applyconfigurations/autoscaling/v2"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// defaultCPU is the average utilization that is aimed at where nothing else is, in percent.
const defaultCPU = 80

// Autoscaler says what lets the number of a role's pods follow the load.
type Autoscaler int

// The autoscalers.
const (
	// NoAutoscaler leaves the number of pods to the operator.
	NoAutoscaler Autoscaler = iota
	// HorizontalAutoscaler is a HorizontalPodAutoscaler of the operator's.
	HorizontalAutoscaler
	// KEDAAutoscaler is a ScaledObject, for which KEDA makes the HorizontalPodAutoscaler.
	KEDAAutoscaler
)

// AutoscalerOf is what a role's spec asks for. A stack that hibernates has none: an autoscaler would give its roles pods.
func AutoscalerOf(stack *v1alpha1.AtlasStack, role Role) Autoscaler {
	scaling := Component(stack, role).Autoscaling
	switch {
	case scaling == nil || stack.Spec.Hibernate:
		return NoAutoscaler
	case scaling.Lag != nil && scaling.Lag.Source == v1alpha1.LagFromKEDA:
		return KEDAAutoscaler
	}
	return HorizontalAutoscaler
}

// LeastReplicas is the number of pods that an autoscaled role has at least.
func LeastReplicas(stack *v1alpha1.AtlasStack, role Role) int32 {
	if scaling := Component(stack, role).Autoscaling; scaling != nil {
		return max(scaling.MinReplicas, 1)
	}
	return 1
}

// HorizontalPodAutoscaler scales a role on CPU, on the work that waits, or on both: the larger number of pods counts then.
func HorizontalPodAutoscaler(stack *v1alpha1.AtlasStack, role Role) (*autoscalingv2ac.HorizontalPodAutoscalerApplyConfiguration, error) {
	scaling := Component(stack, role).Autoscaling
	spec := autoscalingv2ac.HorizontalPodAutoscalerSpec().
		WithScaleTargetRef(autoscalingv2ac.CrossVersionObjectReference().
			WithAPIVersion("apps/v1").WithKind("Deployment").WithName(Name(stack, role))).
		WithMinReplicas(LeastReplicas(stack, role)).
		WithMaxReplicas(scaling.MaxReplicas)
	if target := cpuTarget(scaling); target > 0 {
		spec.WithMetrics(autoscalingv2ac.MetricSpec().WithType(autoscalingv2.ResourceMetricSourceType).
			WithResource(autoscalingv2ac.ResourceMetricSource().WithName(corev1.ResourceCPU).
				WithTarget(autoscalingv2ac.MetricTarget().WithType(autoscalingv2.UtilizationMetricType).WithAverageUtilization(target))))
	}
	if scaling.Lag != nil {
		metric, err := lagMetric(stack, role, scaling.Lag)
		if err != nil {
			return nil, err
		}
		spec.WithMetrics(metric)
	}
	if scaling.Behavior != nil {
		behavior := &autoscalingv2ac.HorizontalPodAutoscalerBehaviorApplyConfiguration{}
		if err := convert(scaling.Behavior, behavior); err != nil {
			return nil, fmt.Errorf("convert %s.autoscaling.behavior: %w", role, err)
		}
		spec.WithBehavior(behavior)
	}
	return autoscalingv2ac.HorizontalPodAutoscaler(Name(stack, role), stack.Namespace).
		WithLabels(Labels(stack, role)).
		WithOwnerReferences(owner(stack)).
		WithSpec(spec), nil
}

// cpuTarget is 0 when CPU does not count.
func cpuTarget(scaling *v1alpha1.AutoscalingSpec) int32 {
	switch {
	case scaling.TargetCPUUtilizationPercentage != nil:
		return *scaling.TargetCPUUtilizationPercentage
	case scaling.Lag == nil:
		return defaultCPU
	}
	return 0
}

// lagMetric is the metric that an adapter for Prometheus serves. The HorizontalPodAutoscaler adds its series up and divides the sum by the pods.
func lagMetric(stack *v1alpha1.AtlasStack, role Role, lag *v1alpha1.LagSpec) (*autoscalingv2ac.MetricSpecApplyConfiguration, error) {
	name, labels := defaultMetric(stack, role)
	selector := &metav1.LabelSelector{MatchLabels: labels}
	if lag.Metric != nil && lag.Metric.Name != "" {
		name = lag.Metric.Name
	}
	if lag.Metric != nil && lag.Metric.Selector != nil {
		selector = lag.Metric.Selector
	}
	identifier := autoscalingv2ac.MetricIdentifier().WithName(name)
	if err := convert(autoscalingv2.MetricIdentifier{Name: name, Selector: selector}, identifier); err != nil {
		return nil, fmt.Errorf("convert %s.autoscaling.lag.metric: %w", role, err)
	}
	return autoscalingv2ac.MetricSpec().WithType(autoscalingv2.ExternalMetricSourceType).
		WithExternal(autoscalingv2ac.ExternalMetricSource().WithMetric(identifier).
			WithTarget(autoscalingv2ac.MetricTarget().WithType(autoscalingv2.AverageValueMetricType).
				WithAverageValue(*resource.NewQuantity(lag.Target, resource.DecimalSI)))), nil
}

// stackMetricLabel is what Prometheus makes of StackLabel, which observability.monitor puts on every series.
const stackMetricLabel = "platform_atlas_dev_stack"

// defaultMetric is the role's own metric and the labels of the stack's series. Namespaces are told apart by the adapter, which is asked for that of the
// HorizontalPodAutoscaler.
func defaultMetric(stack *v1alpha1.AtlasStack, role Role) (name string, labels map[string]string) {
	if consumesKafka(role) {
		return "atlas_consumer_lag_messages", map[string]string{"group": consumerGroup(stack, role)}
	}
	return "atlas_jobs", map[string]string{"state": "due", stackMetricLabel: stack.Name}
}

// consumerGroup is the one that a role joins by the variable KAFKA_GROUP_PREFIX.
func consumerGroup(stack *v1alpha1.AtlasStack, role Role) string {
	return stack.Spec.Kafka.Topic.Name + "-" + string(role)
}
