package atlasstack_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

const exposure = v1alpha1.ConditionExposureReady

// everything asks for every child that stands around the pods.
func everything(s *v1alpha1.AtlasStackSpec) {
	s.Networking.Service = v1alpha1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Annotations: map[string]string{"example.com/a": "b"}}
	s.Networking.Ingress = &v1alpha1.IngressSpec{Host: "atlas.example.com", TLSSecretName: "tls"}
	s.Networking.HTTPRoute = &v1alpha1.HTTPRouteSpec{ParentRefs: []v1alpha1.GatewayReference{{Name: "web"}}}
	s.Networking.NetworkPolicy = &v1alpha1.NetworkPolicySpec{APIFrom: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}}
	s.Observability.Monitor = &v1alpha1.MonitorSpec{}
	s.Observability.Dashboards = &v1alpha1.DashboardsSpec{}
}

// around are the children that everything gives, with what a person may have changed in each.
func around() map[schemaKind]map[string]any {
	empty := map[string]any{}
	return map[schemaKind]map[string]any{
		{"v1", "Service", "demo-api"}:                                   {"spec": map[string]any{"selector": map[string]any{"app.kubernetes.io/name": "other"}}},
		{"v1", "Service", "demo-api-ops"}:                               {"metadata": map[string]any{"labels": map[string]any{"app.kubernetes.io/name": "other"}}},
		{"networking.k8s.io/v1", "Ingress", "demo-api"}:                 {"spec": map[string]any{"rules": []any{map[string]any{"host": "other.example.com"}}}},
		{"networking.k8s.io/v1", "NetworkPolicy", "demo-api"}:           {"spec": map[string]any{"ingress": []any{empty}}},
		{"networking.k8s.io/v1", "NetworkPolicy", "demo-worker"}:        {"spec": map[string]any{"ingress": []any{empty}}},
		{"networking.k8s.io/v1", "NetworkPolicy", "demo-migrate"}:       {"metadata": map[string]any{"labels": map[string]any{workloads.StackLabel: nil}}},
		{"gateway.networking.k8s.io/v1", "HTTPRoute", "demo-api"}:       {"spec": map[string]any{"rules": []any{map[string]any{"backendRefs": []any{map[string]any{"name": "other", "port": int64(80)}}}}}},
		{"monitoring.coreos.com/v1", "ServiceMonitor", stackName}:       {"metadata": map[string]any{"labels": map[string]any{"app.kubernetes.io/part-of": "x"}}},
		{"v1", "ConfigMap", "demo-dashboards"}:                          {"data": map[string]any{"atlas-overview.json": "{}"}},
		{"gateway.networking.k8s.io/v1", "HTTPRoute", "demo-api" + " "}: nil, // the same once more, of which only the label goes
	}
}

type schemaKind struct{ apiVersion, kind, name string }

func (k schemaKind) object(b *bundle) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetAPIVersion(k.apiVersion)
	o.SetKind(k.kind)
	o.SetNamespace(b.namespace)
	o.SetName(strings.TrimSpace(k.name))
	return o
}

// answer plays the Gateway's controller.
func (b *bundle) answer(status metav1.ConditionStatus, reason, message string) {
	b.t.Helper()
	var route *unstructured.Unstructured
	require.EventuallyWithT(b.t, func(c *assert.CollectT) {
		route = &unstructured.Unstructured{}
		route.SetGroupVersionKind(workloads.HTTPRouteKind().GroupVersionKind)
		require.NoError(c, b.client.Get(b.t.Context(), client.ObjectKey{Namespace: b.namespace, Name: "demo-api"}, route))
		condition := func(kind string, status metav1.ConditionStatus, reason string) map[string]any {
			return map[string]any{
				"type": kind, "status": string(status), "reason": reason, "message": message,
				"observedGeneration": route.GetGeneration(), "lastTransitionTime": "2026-01-01T00:00:00Z",
			}
		}
		route.Object["status"] = map[string]any{"parents": []any{map[string]any{
			"controllerName": "example.com/gateway", "parentRef": map[string]any{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "web"},
			"conditions": []any{condition("Accepted", status, reason), condition("ResolvedRefs", metav1.ConditionTrue, "ResolvedRefs")},
		}}}
		require.NoError(c, b.client.Status().Update(b.t.Context(), route))
	}, patience, tick)
}

func TestEverythingAroundThePodsIsKeptAndGoes(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.create(everything)
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
		for kind := range around() { // before any pod
			require.NoError(c, b.client.Get(t.Context(), client.ObjectKeyFromObject(kind.object(b)), kind.object(b)))
		}
	})
	require.Empty(t, b.deployments())
	b.finishMigration(true)
	b.answer(metav1.ConditionTrue, "Accepted", "")
	stack := b.untilReady()
	require.Equal(t, "https://atlas.example.com", stack.Status.ExternalEndpoint)

	for kind, change := range around() {
		before := kind.object(b)
		require.NoError(t, b.client.Get(t.Context(), client.ObjectKeyFromObject(before), before))
		require.True(t, metav1.IsControlledBy(before, stack), "%v", kind)
		if change == nil {
			change = map[string]any{"metadata": map[string]any{"labels": map[string]any{workloads.StackLabel: nil}}}
		}
		edited := kind.object(b)
		content, err := (&unstructured.Unstructured{Object: change}).MarshalJSON()
		if err != nil { // it has no kind of its own
			edited.Object = change
			edited.SetAPIVersion(kind.apiVersion)
			edited.SetKind(kind.kind)
			content, err = edited.MarshalJSON()
		}
		require.NoError(t, err)
		live := kind.object(b)
		require.NoError(t, b.client.Patch(t.Context(), live, client.RawPatch("application/merge-patch+json", content)), "%v", kind)
		b.sameAgain(kind, before, false)

		require.NoError(t, b.client.Delete(t.Context(), kind.object(b)))
		b.sameAgain(kind, before, true)
	}
	b.answer(metav1.ConditionTrue, "Accepted", "")
	b.untilReady()

	// Nothing is written once all is in place.
	for range 3 {
		b.touch()
	}
	b.untilReady()
	writes := b.writes.in(b.namespace)
	for range 3 {
		b.touch()
	}
	require.Empty(t, b.writes.in(b.namespace)[len(writes):])

	b.update(func(s *v1alpha1.AtlasStackSpec) {
		s.Networking, s.Observability = v1alpha1.NetworkingSpec{}, v1alpha1.ObservabilitySpec{}
	})
	for kind := range around() {
		if kind.name != "demo-api" || kind.kind != "Service" {
			b.noChild(kind.object(b))
		}
	}
	require.Empty(t, b.untilReady().Status.ExternalEndpoint)
	service := &corev1.Service{}
	require.NoError(t, b.client.Get(t.Context(), client.ObjectKey{Namespace: b.namespace, Name: "demo-api"}, service))
	require.Equal(t, corev1.ServiceTypeClusterIP, service.Spec.Type)
	require.Len(t, service.Spec.Ports, 2)
	require.Empty(t, service.Annotations)
	for _, port := range service.Spec.Ports {
		require.Zero(t, port.NodePort)
	}
}

// sameAgain waits until a child is as it was, and another one if it was deleted.
func (b *bundle) sameAgain(kind schemaKind, before *unstructured.Unstructured, deleted bool) {
	b.t.Helper()
	require.EventuallyWithT(b.t, func(c *assert.CollectT) {
		now := kind.object(b)
		require.NoError(c, b.client.Get(b.t.Context(), client.ObjectKeyFromObject(now), now))
		require.Equal(c, deleted, now.GetUID() != before.GetUID() && deleted, "%v", kind)
		require.Equal(c, before.GetLabels(), now.GetLabels(), "%v", kind)
		if kind.kind != "Service" { // a new one gets another address
			require.Equal(c, before.Object["spec"], now.Object["spec"], "%v", kind)
		}
		selector, _, _ := unstructured.NestedMap(before.Object, "spec", "selector")
		selectorNow, _, _ := unstructured.NestedMap(now.Object, "spec", "selector")
		require.Equal(c, selector, selectorNow, "%v", kind)
		require.Equal(c, before.Object["data"], now.Object["data"], "%v", kind)
	}, patience, tick)
}

func TestRouteThatNoGatewayTakes(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.create(func(s *v1alpha1.AtlasStackSpec) {
		s.Networking.HTTPRoute = &v1alpha1.HTTPRouteSpec{ParentRefs: []v1alpha1.GatewayReference{{Name: "web"}}}
	})
	b.finishMigration(true)
	b.condition(exposure, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "does the Gateway exist")
	b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "pods ready")
	b.rollOut()
	b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
	b.answer(metav1.ConditionFalse, "NotAllowedByListeners", "no listener takes routes of this namespace")
	stack := b.condition(exposure, metav1.ConditionFalse, v1alpha1.ReasonRefused, "(NotAllowedByListeners): no listener takes routes of this namespace")
	require.Nil(t, meta.FindStatusCondition(stack.Status.Conditions, v1alpha1.ConditionStalled), "the Gateway may change")
	b.condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonRefused, "Gateway "+b.namespace+"/web does not take HTTPRoute demo-api")
	b.answer(metav1.ConditionTrue, "Accepted", "")
	b.untilReady()
	// What was said of the route before it was changed does not count.
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Networking.HTTPRoute.Hostnames = []string{"atlas.example.com"} })
	b.condition(exposure, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "has not looked at HTTPRoute demo-api as it is now")
	b.answer(metav1.ConditionTrue, "Accepted", "")
	b.untilReady()
}

func TestLoadBalancerHasToHaveItsAddress(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.create(func(s *v1alpha1.AtlasStackSpec) {
		s.Networking.Service = v1alpha1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerSourceRanges: []string{"10.0.0.0/8"}}
	})
	b.finishMigration(true)
	b.condition(exposure, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "Service demo-api of type LoadBalancer has no address yet")
	service := &corev1.Service{}
	require.NoError(t, b.client.Get(t.Context(), client.ObjectKey{Namespace: b.namespace, Name: "demo-api"}, service))
	service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.7"}}
	require.NoError(t, b.client.Status().Update(t.Context(), service))
	require.Equal(t, "http://192.0.2.7", b.untilReady().Status.ExternalEndpoint)

	stack := b.eventually(func(*assert.CollectT, *v1alpha1.AtlasStack) {})
	changed := stack.DeepCopy()
	changed.Spec.Networking.Service.LoadBalancerClass = ptr.To("example.com/other")
	require.ErrorContains(t, b.client.Patch(t.Context(), changed, client.MergeFrom(stack), client.DryRunAll), "change type to ClusterIP first")
}

func TestIngressWithoutAddressHoldsNothingUp(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp(func(s *v1alpha1.AtlasStackSpec) {
		s.Networking.Ingress = &v1alpha1.IngressSpec{Host: "atlas.example.com"}
	})
	b.condition(exposure, metav1.ConditionTrue, v1alpha1.ReasonReady, "Ingress demo-api has no address")
	ingress := &networkingv1.Ingress{}
	require.NoError(t, b.client.Get(t.Context(), client.ObjectKey{Namespace: b.namespace, Name: "demo-api"}, ingress))
	ingress.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{Hostname: "lb.example.com"}}
	require.NoError(t, b.client.Status().Update(t.Context(), ingress))
	b.eventually(func(c *assert.CollectT, stack *v1alpha1.AtlasStack) {
		require.Equal(c, "everything around the pods is in place", meta.FindStatusCondition(stack.Status.Conditions, exposure).Message)
	})
}

// TestOperatorMayReachTheAPI: AtlasJobs are done by the operator through the API.
func TestOperatorMayReachTheAPI(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.create(everything)
	policy := &networkingv1.NetworkPolicy{}
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
		require.NoError(c, b.client.Get(t.Context(), client.ObjectKey{Namespace: b.namespace, Name: "demo-api"}, policy))
	})
	require.Len(t, policy.Spec.Ingress, 1, "nobody may read metrics")
	peers := policy.Spec.Ingress[0].From
	require.Len(t, peers, 2)
	require.Equal(t, map[string]string{"kubernetes.io/metadata.name": operatorNamespace}, peers[1].NamespaceSelector.MatchLabels)
	require.Equal(t, map[string]string{"app.kubernetes.io/name": "atlas-operator"}, peers[1].PodSelector.MatchLabels)
}

func TestLoadBalancerSettingsOfOtherServices(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	for want, service := range map[string]v1alpha1.ServiceSpec{
		"loadBalancerSourceRanges are for a Service of type LoadBalancer": {LoadBalancerSourceRanges: []string{"10.0.0.0/8"}},
		"loadBalancerClass is for a Service of type LoadBalancer":         {Type: corev1.ServiceTypeNodePort, LoadBalancerClass: ptr.To("example.com/x")},
		"want a CIDR": {Type: corev1.ServiceTypeLoadBalancer, LoadBalancerSourceRanges: []string{"10.0.0.0"}},
	} {
		err := b.client.Create(t.Context(), b.stack(func(s *v1alpha1.AtlasStackSpec) { s.Networking.Service = service }), client.DryRunAll)
		require.ErrorContains(t, err, want)
	}
}
