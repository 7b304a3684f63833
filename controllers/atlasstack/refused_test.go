package atlasstack_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

const badKey = "not a key!"

// TestWhatTheAPIServerRefuses of any object waits for a person, and names the part of the spec to correct.
func TestWhatTheAPIServerRefuses(t *testing.T) {
	t.Parallel()
	const exposure, pods = v1alpha1.ConditionExposureReady, v1alpha1.ConditionWorkloadsReady
	b := newBundle(t)
	right := func(s *v1alpha1.AtlasStackSpec) {
		full(s)
		s.Kafka.Brokers, s.Elasticsearch.Addresses = []string{b.kafka.address}, []string{b.elastic.address}
		s.Networking.Service, s.Networking.HTTPRoute, s.Observability.Dashboards = v1alpha1.ServiceSpec{}, nil, nil
		s.ServiceAccountAnnotations = nil
	}
	b.bringUp(right)
	for _, tc := range []struct {
		name, condition, message string
		mistake                  func(*v1alpha1.AtlasStackSpec)
	}{
		{"a CIDR", exposure, "spec.networking.networkPolicy asks for, correct it: NetworkPolicy: spec.ingress[0].from[0].ipBlock.cidr: ", policy(func(n *v1alpha1.NetworkPolicySpec) {
			n.APIFrom = []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "foo"}}}
		})},
		{"an empty peer", exposure, "spec.networking.networkPolicy", policy(func(n *v1alpha1.NetworkPolicySpec) { n.APIFrom = []networkingv1.NetworkPolicyPeer{{}} })},
		{"a port", exposure, "NetworkPolicy: spec.egress[0].ports[0].port: ", policy(func(n *v1alpha1.NetworkPolicySpec) {
			n.Egress = []networkingv1.NetworkPolicyEgressRule{{Ports: []networkingv1.NetworkPolicyPort{{Port: ptr.To(intstr.FromInt32(99999))}}}}
		})},
		{"an annotation of the Service", exposure, "spec.networking.service asks", func(s *v1alpha1.AtlasStackSpec) { s.Networking.Service.Annotations = map[string]string{badKey: ""} }},
		{"an annotation of the Ingress", exposure, "spec.networking.ingress asks", func(s *v1alpha1.AtlasStackSpec) { s.Networking.Ingress.Annotations = map[string]string{badKey: ""} }},
		{"an annotation of the route", exposure, "spec.networking.httpRoute asks", func(s *v1alpha1.AtlasStackSpec) {
			s.Networking.HTTPRoute = &v1alpha1.HTTPRouteSpec{Annotations: map[string]string{badKey: ""}, ParentRefs: []v1alpha1.GatewayReference{{Name: "web"}}}
		}},
		{"a label of the monitor", exposure, "spec.observability.monitor asks", func(s *v1alpha1.AtlasStackSpec) { s.Observability.Monitor.Labels = map[string]string{badKey: ""} }},
		{"a label of the dashboards", exposure, "spec.observability.dashboards asks", func(s *v1alpha1.AtlasStackSpec) {
			s.Observability.Dashboards = &v1alpha1.DashboardsSpec{Labels: map[string]string{badKey: ""}}
		}},
		{"an annotation of the ServiceAccounts", pods, "spec.serviceAccountAnnotations asks", func(s *v1alpha1.AtlasStackSpec) { s.ServiceAccountAnnotations = map[string]string{badKey: ""} }},
	} {
		b.update(func(s *v1alpha1.AtlasStackSpec) { right(s); tc.mistake(s) })
		b.condition(tc.condition, metav1.ConditionFalse, v1alpha1.ReasonRefused, tc.message)
		stack := b.condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonRefused, tc.message)
		stalled := meta.FindStatusCondition(stack.Status.Conditions, v1alpha1.ConditionStalled)
		t.Logf("%s: %s", tc.name, stalled.Message)
		require.NotContains(t, stalled.Message, "apply ", tc.name)
		require.Equal(t, 1, strings.Count(stalled.Message, "the API server refuses"), stalled.Message)
	}
	b.update(right)
	b.untilReady()
}

func policy(mistake func(*v1alpha1.NetworkPolicySpec)) func(*v1alpha1.AtlasStackSpec) {
	return func(s *v1alpha1.AtlasStackSpec) {
		s.Networking.NetworkPolicy = s.Networking.NetworkPolicy.DeepCopy()
		mistake(s.Networking.NetworkPolicy)
	}
}

// TestARefusedServiceAccountLeavesTheDeploymentAsItWas, and an edit of that is put right meanwhile.
func TestARefusedServiceAccountLeavesTheDeploymentAsItWas(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	b.update(func(s *v1alpha1.AtlasStackSpec) {
		s.ServiceAccountAnnotations, s.LogLevel = map[string]string{badKey: ""}, "debug"
	})
	b.condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonRefused, "spec.serviceAccountAnnotations")
	d := b.deployment(workloads.RoleAPI)
	before := d.Spec.Template.DeepCopy()
	d.Spec.Template.Spec.Containers[0].Image = "other"
	require.NoError(t, b.client.Update(t.Context(), d))
	require.Eventually(t, func() bool {
		return b.deployment(workloads.RoleAPI).Spec.Template.Spec.Containers[0].Image == before.Spec.Containers[0].Image
	}, patience, tick)
	require.Equal(t, before, &b.deployment(workloads.RoleAPI).Spec.Template, "not with the new log level")
}

// TestARefusedMigration waits for a person too.
func TestARefusedMigration(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.create(func(s *v1alpha1.AtlasStackSpec) { s.ServiceAccountAnnotations = map[string]string{badKey: ""} })
	b.condition(v1alpha1.ConditionMigrationsApplied, metav1.ConditionFalse, v1alpha1.ReasonRefused, "spec.serviceAccountAnnotations")
	b.condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonRefused, "spec.serviceAccountAnnotations")
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.ServiceAccountAnnotations = nil })
	b.finishMigration(true)
	b.untilReady()
}
