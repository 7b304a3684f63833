package atlasstack_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// abundant is full with every other child, and with what an API server may complete, put in order or write in another way.
func abundant(s *v1alpha1.AtlasStackSpec) {
	full(s)
	everything(s)
	peers := []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}}
	s.Networking.NetworkPolicy = &v1alpha1.NetworkPolicySpec{
		APIFrom: peers, MetricsFrom: peers,
		Egress: []networkingv1.NetworkPolicyEgressRule{{Ports: []networkingv1.NetworkPolicyPort{{Port: ptr.To(intstr.FromInt32(443))}}}},
	}
	s.Worker.PodDisruptionBudget = &v1alpha1.PodDisruptionBudgetSpec{MaxUnavailable: ptr.To(intstr.FromString("50%"))}
	s.Worker.Autoscaling = &v1alpha1.AutoscalingSpec{MinReplicas: 1, MaxReplicas: 3, Lag: &v1alpha1.LagSpec{Target: 10, Source: v1alpha1.LagFromExternalMetric}}
	s.Indexer.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("0.5Gi")}
}

// TestFullStackWritesNothingAtSteadyState, however often and by whatever it is reconciled, with every child that it can have.
func TestFullStackWritesNothingAtSteadyState(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]func(*v1alpha1.AtlasStackSpec){"closed": closed, "abundant": abundant} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBundle(t)
			b.create(spec, func(s *v1alpha1.AtlasStackSpec) {
				s.Kafka.Brokers, s.Elasticsearch.Addresses = []string{b.kafka.address}, []string{b.elastic.address}
			})
			b.finishMigration(true)
			b.answer(metav1.ConditionTrue, "Accepted", "")
			b.untilReady()
			// Reconciliations that were under way when the stack became Ready may still confirm what they applied.
			for range 3 {
				b.touch()
			}
			stack := b.untilReady()
			before, versions := len(b.writes.in(b.namespace)), b.allVersions()
			for range 10 {
				b.touch()
			}
			require.Empty(t, b.writes.in(b.namespace)[before:])
			require.Equal(t, versions, b.allVersions())
			require.Equal(t, stack.ResourceVersion, b.untilReady().ResourceVersion)
			kinds := map[string]bool{}
			for _, child := range b.children() {
				kinds[child.GetKind()] = true
			}
			for _, kind := range []string{
				"ConfigMap", "Deployment", "HTTPRoute", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount", "ServiceMonitor",
			} {
				require.True(t, kinds[kind], "no %s is among the children", kind)
			}
		})
	}
}

// closed is full with network policies that let nobody in: their list of rules is empty, which the API server keeps as no list.
func closed(s *v1alpha1.AtlasStackSpec) {
	full(s)
	everything(s)
	s.Networking.NetworkPolicy = &v1alpha1.NetworkPolicySpec{}
}

// allVersions are the resource versions of all children.
func (b *bundle) allVersions() map[string]string {
	b.t.Helper()
	versions := map[string]string{}
	for _, child := range b.children() {
		versions[child.GetKind()+"/"+child.GetName()] = child.GetResourceVersion()
	}
	return versions
}
