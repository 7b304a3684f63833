package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/crdtest"
)

// installRoutes installs what the operator needs of the Gateway API.
func (l *lifecycle) installRoutes(t *testing.T) {
	t.Helper()
	definition, err := crdtest.Read(t.Context(), crdtest.HTTPRoute)
	require.NoError(t, err)
	crd := &unstructured.Unstructured{}
	crd.Object, err = runtime.DefaultUnstructuredConverter.ToUnstructured(definition)
	require.NoError(t, err)
	unstructured.RemoveNestedField(crd.Object, "status")
	if err := l.cluster.Create(t.Context(), crd); !apierrors.IsAlreadyExists(err) {
		require.NoError(t, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, ctrlclient.IgnoreNotFound(l.cluster.Delete(ctx, crd)))
	})
}

// acceptRoute is the Gateway's controller: it looks at the route and takes it. The stack does not say that it is Ready before.
func (l *lifecycle) acceptRoute(t *testing.T) {
	t.Helper()
	route := &unstructured.Unstructured{}
	route.SetGroupVersionKind(schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRoute"})
	eventually(t, readyWithin, "the route waits for its Gateway", func(ctx context.Context) error {
		c := condition(l.stackNow(t).Status.Conditions, platformv1alpha1.ConditionExposureReady)
		if !strings.Contains(c.Message, "gateways/public") {
			return fmt.Errorf("%s: %s", c.Reason, c.Message)
		}
		return l.cluster.Get(ctx, l.name("api"), route)
	})
	require.Error(t, stackReady(t.Context(), l.env, l.key))
	require.Equal(t, map[string]any{
		"hostnames":  []any{"atlas.example.com"},
		"parentRefs": []any{map[string]any{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "namespace": "gateways"}},
		"rules": []any{map[string]any{
			"matches":     []any{map[string]any{"path": map[string]any{"type": "PathPrefix", "value": "/"}}},
			"backendRefs": []any{map[string]any{"group": "", "kind": "Service", "name": l.name("api").Name, "port": int64(80), "weight": int64(1)}},
		}},
	}, route.Object["spec"])

	var answers []any
	for _, kind := range []string{"Accepted", "ResolvedRefs"} {
		answers = append(answers, map[string]any{
			"type": kind, "status": "True", "reason": kind, "message": "", "observedGeneration": route.GetGeneration(),
			"lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
		})
	}
	route.Object["status"] = map[string]any{"parents": []any{map[string]any{
		"controllerName": "example.com/gateways", "parentRef": map[string]any{"name": "public", "namespace": "gateways"}, "conditions": answers,
	}}}
	require.NoError(t, l.cluster.Status().Update(t.Context(), route))
}

// objects checks what stands around the pods. The node's network does not enforce a NetworkPolicy, so that its rules are only read.
func (l *lifecycle) objects(t *testing.T) {
	for _, role := range roles {
		budget, policy := &policyv1.PodDisruptionBudget{}, &networkingv1.NetworkPolicy{}
		require.NoError(t, l.cluster.Get(t.Context(), l.name(role), budget))
		require.Equal(t, "1", budget.Spec.MaxUnavailable.String())
		require.Equal(t, role, budget.Spec.Selector.MatchLabels["app.kubernetes.io/component"])
		require.NoError(t, l.cluster.Get(t.Context(), l.name(role), policy))
		require.Equal(t, role, policy.Spec.PodSelector.MatchLabels["app.kubernetes.io/component"])
		require.Equal(t, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}, policy.Spec.PolicyTypes)
		if role != "api" {
			require.Empty(t, policy.Spec.Ingress, "nobody may connect")
			continue
		}
		require.Len(t, policy.Spec.Ingress, 1)
		require.Equal(t, int32(8080), policy.Spec.Ingress[0].Ports[0].Port.IntVal)
		require.Len(t, policy.Spec.Ingress[0].From, 2, "the gateway and the operator")
	}
}
