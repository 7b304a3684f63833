package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ObservabilitySpec says what is told about the platform and to whom.
type ObservabilitySpec struct {
	// monitor has Prometheus scrape every pod, by an object of the Prometheus operator, whose CRDs must be in the cluster.
	// +optional
	Monitor *MonitorSpec `json:"monitor,omitempty"`

	// dashboards, {} at least, puts dashboards for Grafana into a ConfigMap.
	// +optional
	Dashboards *DashboardsSpec `json:"dashboards,omitempty"`

	// tracing sends spans to a collector.
	// +optional
	Tracing *TracingSpec `json:"tracing,omitempty"`
}

// MonitorSpec has Prometheus scrape every pod.
type MonitorSpec struct {
	// kind is ServiceMonitor or PodMonitor.
	// +optional
	// +default="ServiceMonitor"
	// +kubebuilder:validation:Enum=ServiceMonitor;PodMonitor
	Kind string `json:"kind,omitempty"`

	// interval is the time between two scrapes; Prometheus' own when it is not set.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$')`,message="want a duration of at least 1ms, such as 90s, 15m or 168h: its units are h, m, s and ms, days are not a unit, and it has no sign"
	// +kubebuilder:validation:XValidation:rule=`!self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$') || duration(self) >= duration('1ms')`,message="monitor.interval is zero: raise it, 30s for example, or remove it for Prometheus' own"
	Interval *metav1.Duration `json:"interval,omitempty"`

	// labels are further labels of the object, by which a Prometheus selects it.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	Labels map[string]string `json:"labels,omitempty"`
}

// DashboardsSpec puts dashboards for Grafana into a ConfigMap.
type DashboardsSpec struct {
	// labels are the labels of the ConfigMap, by which Grafana's sidecar finds it.
	// +optional
	// +default={"grafana_dashboard": "1"}
	// +kubebuilder:validation:MaxProperties=32
	Labels map[string]string `json:"labels,omitempty"`
}

// TracingSpec sends spans to a collector.
type TracingSpec struct {
	// otlpEndpoint is the URL of a collector that takes OTLP over HTTP, http://collector.monitoring:4318 for example.
	// +required
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^https?://[^\s/@]+(/\S*)?$') && isURL(self) && url(self).getHostname() != ''`,message="tracing.otlpEndpoint is not a URL, http://collector.monitoring:4318 for example"
	// +kubebuilder:validation:XValidation:rule="!isURL(self) || url(self).getPort() == '' || (url(self).getPort().size() <= 5 && int(url(self).getPort()) >= 1 && int(url(self).getPort()) <= 65535)",message="the port is not between 1 and 65535"
	OTLPEndpoint string `json:"otlpEndpoint"`

	// samplePercentage is the part of the requests that is traced, where the caller has not decided.
	// +optional
	// +default=10
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	SamplePercentage *int32 `json:"samplePercentage,omitempty"`
}
