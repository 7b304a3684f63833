package v1alpha1

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// ComponentSpec says how many pods one role has and how they are made.
//
// +kubebuilder:validation:XValidation:rule="!has(self.replicas) || !has(self.autoscaling)",message="replicas and autoscaling are both set, and would fight over the number of pods: remove one of them"
// +kubebuilder:validation:XValidation:rule="!has(self.autoscaling) || (has(self.autoscaling.lag) && !has(self.autoscaling.targetCPUUtilizationPercentage)) || (has(self.resources) && has(self.resources.requests) && 'cpu' in self.resources.requests)",message="autoscaling on CPU compares with what the pods request: set resources.requests.cpu"
type ComponentSpec struct {
	// replicas is the number of pods: 1 when neither replicas nor autoscaling is set.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	Replicas *int32 `json:"replicas,omitempty"`

	// autoscaling lets the number of pods follow the load. The operator leaves the Deployment's replicas alone then.
	// +optional
	Autoscaling *AutoscalingSpec `json:"autoscaling,omitempty"`

	// resources are the requests and limits of each pod.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.claims)",message="resources.claims is not supported: remove it"
	// +kubebuilder:validation:XValidation:rule="!has(self.requests) || ['cpu', 'memory'].all(r, !(r in self.requests) || !string(self.requests[r]).startsWith('-'))",message="a quantity of resources.requests is negative: correct it, 500m or 1Gi for example"
	// +kubebuilder:validation:XValidation:rule="!has(self.limits) || ['cpu', 'memory'].all(r, !(r in self.limits) || !string(self.limits[r]).startsWith('-'))",message="a quantity of resources.limits is negative: correct it, 500m or 1Gi for example"
	// +kubebuilder:validation:XValidation:rule="!has(self.requests) || !has(self.limits) || ['cpu', 'memory'].all(r, !(r in self.requests) || !(r in self.limits) || !isQuantity(string(self.requests[r])) || !isQuantity(string(self.limits[r])) || quantity(string(self.requests[r])).compareTo(quantity(string(self.limits[r]))) <= 0)",message="a quantity of resources.requests is larger than that of resources.limits, and no pod could be made: lower it, or raise the limit"
	Resources corev1.ResourceRequirements `json:"resources,omitzero"`

	// podDisruptionBudget bounds how many pods may be evicted at the same time, by the drain of a node for example: 1 when it is not set.
	// +optional
	PodDisruptionBudget *PodDisruptionBudgetSpec `json:"podDisruptionBudget,omitempty"`

	// topologySpreadConstraints spread the pods over nodes and zones. One without a labelSelector counts this role's pods of the same revision.
	// +optional
	// +listType=map
	// +listMapKey=topologyKey
	// +listMapKey=whenUnsatisfiable
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:XValidation:rule="self.maxSkew >= 1",message="maxSkew is less than 1: set it to 1 or more"
	// +kubebuilder:validation:items:XValidation:rule="size(self.topologyKey) > 0",message="topologyKey is empty: name a label of the nodes, topology.kubernetes.io/zone for example"
	// +kubebuilder:validation:items:XValidation:rule="self.whenUnsatisfiable in ['DoNotSchedule', 'ScheduleAnyway']",message="whenUnsatisfiable is neither DoNotSchedule nor ScheduleAnyway"
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`

	// priorityClassName is the PriorityClass of the pods.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self == '' || self.matches(r'^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,message="not the name of a PriorityClass: want lower-case letters, digits, '-' and '.', high for example"
	PriorityClassName string `json:"priorityClassName,omitempty"`

	// podTemplate is merged over the pod template that the operator makes, as kubectl patch --type=strategic does: lists of containers, volumes and
	// variables are merged by name, and the role's container is named atlas. What the selector and the rollout need can't be changed: the labels
	// app.kubernetes.io/name, instance and component and platform.atlas.dev/stack, the annotation platform.atlas.dev/config-hash, and the image of the
	// container atlas, which is spec.image.
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	PodTemplate *runtime.RawExtension `json:"podTemplate,omitempty"`
}

// AutoscalingSpec lets the number of pods follow the load.
//
// +kubebuilder:validation:XValidation:rule="self.minReplicas <= self.maxReplicas",message="minReplicas is larger than maxReplicas: lower it, or raise maxReplicas"
type AutoscalingSpec struct {
	// minReplicas is the least number of pods.
	// +optional
	// +default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MinReplicas int32 `json:"minReplicas,omitempty"`

	// maxReplicas is the greatest number of pods. More indexer or audit pods than the topic has partitions stand idle.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MaxReplicas int32 `json:"maxReplicas"`

	// targetCPUUtilizationPercentage is the average CPU of the pods that is aimed at, in percent of their request: 80 when neither it nor lag is set.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	TargetCPUUtilizationPercentage *int32 `json:"targetCPUUtilizationPercentage,omitempty"`

	// lag scales on the work that waits: events of the indexer and the audit, jobs of the worker. The API has none.
	// +optional
	Lag *LagSpec `json:"lag,omitempty"`

	// behavior bounds how fast pods come and go, as in a HorizontalPodAutoscaler.
	// +optional
	Behavior *autoscalingv2.HorizontalPodAutoscalerBehavior `json:"behavior,omitempty"`
}

// LagSource says who tells how much work waits.
type LagSource string

// The sources.
const (
	// LagFromExternalMetric takes a metric of the external metrics API, as an adapter for Prometheus serves it.
	LagFromExternalMetric LagSource = "ExternalMetric"
	// LagFromKEDA has KEDA ask Kafka, or PostgreSQL for the worker. KEDA must be installed in the cluster.
	LagFromKEDA LagSource = "KEDA"
)

// LagSpec scales on the work that waits.
//
// +kubebuilder:validation:XValidation:rule="!has(self.metric) || self.source == 'ExternalMetric'",message="metric is for the source ExternalMetric only: remove it"
type LagSpec struct {
	// target is how many events, or jobs, may wait for each pod.
	// +required
	// +kubebuilder:validation:Minimum=1
	Target int64 `json:"target"`

	// source says who tells how much waits. ExternalMetric: a metric of the external metrics API. KEDA: a ScaledObject, for which KEDA makes the
	// HorizontalPodAutoscaler.
	// +optional
	// +default="ExternalMetric"
	// +kubebuilder:validation:Enum=ExternalMetric;KEDA
	Source LagSource `json:"source,omitempty"`

	// metric names the metric of source ExternalMetric.
	// +optional
	Metric *ExternalMetricSpec `json:"metric,omitempty"`
}

// ExternalMetricSpec names a metric of the external metrics API.
type ExternalMetricSpec struct {
	// name is the metric's name: that of the role's own Prometheus metric when it is not set.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// selector chooses the metric's series: those of this stack when it is not set.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// PodDisruptionBudgetSpec bounds evictions.
//
// +kubebuilder:validation:XValidation:rule="has(self.minAvailable) != has(self.maxUnavailable)",message="set exactly one of minAvailable and maxUnavailable"
type PodDisruptionBudgetSpec struct {
	// minAvailable is how many pods, or which part of them, stay.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 0 : self.matches('^(100|[0-9]{1,2})%$')",message="want a number of pods, 1 for example, or a part of them, 25% for example"
	MinAvailable *intstr.IntOrString `json:"minAvailable,omitempty"`

	// maxUnavailable is how many pods, or which part of them, may be away.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 0 : self.matches('^(100|[0-9]{1,2})%$')",message="want a number of pods, 1 for example, or a part of them, 25% for example"
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable,omitempty"`
}
