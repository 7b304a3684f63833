package workloads

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// OptionalKind is a kind of another project, which is in the cluster only if that project is installed.
type OptionalKind struct {
	schema.GroupVersionKind
	// Project is what brings the kind.
	Project string
	// Whole says that the objects are cached as wholes, because their status is read. Of the others only the metadata is.
	Whole bool
}

// HTTPRouteKind is the Gateway API's route of HTTP requests.
func HTTPRouteKind() OptionalKind {
	return OptionalKind{schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRoute"}, "the Gateway API", true}
}

// MonitorKind is the kind of the Prometheus operator that observability.monitor.kind names.
func MonitorKind(kind string) OptionalKind {
	return OptionalKind{schema.GroupVersionKind{Group: "monitoring.coreos.com", Version: "v1", Kind: kind}, "the Prometheus operator", false}
}

// ScaledObjectKind is KEDA's autoscaler.
func ScaledObjectKind() OptionalKind {
	return OptionalKind{schema.GroupVersionKind{Group: "keda.sh", Version: "v1alpha1", Kind: "ScaledObject"}, "KEDA", false}
}

// TriggerAuthenticationKind is what KEDA's triggers log in with.
func TriggerAuthenticationKind() OptionalKind {
	return OptionalKind{schema.GroupVersionKind{Group: "keda.sh", Version: "v1alpha1", Kind: "TriggerAuthentication"}, "KEDA", false}
}

// The kinds of monitors.
const (
	ServiceMonitor = "ServiceMonitor"
	PodMonitor     = "PodMonitor"
)

// OptionalKinds are all of them.
func OptionalKinds() []OptionalKind {
	return []OptionalKind{
		HTTPRouteKind(), MonitorKind(ServiceMonitor), MonitorKind(PodMonitor), ScaledObjectKind(), TriggerAuthenticationKind(),
	}
}

// optional is an object of an optional kind with its metadata.
func optional(stack *v1alpha1.AtlasStack, kind OptionalKind, name string, labels map[string]string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: map[string]any{}}
	object.SetGroupVersionKind(kind.GroupVersionKind)
	object.SetNamespace(stack.Namespace)
	object.SetName(name)
	object.SetLabels(labels)
	controller := true
	ref := owner(stack)
	object.SetOwnerReferences([]metav1.OwnerReference{{
		APIVersion: *ref.APIVersion, Kind: *ref.Kind, Name: *ref.Name, UID: *ref.UID, Controller: &controller,
	}})
	return object
}
