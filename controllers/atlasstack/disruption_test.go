package atlasstack_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

func TestEveryRoleHasABudget(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	key := client.ObjectKey{Namespace: b.namespace, Name: "demo-api"}
	budget := &policyv1.PodDisruptionBudget{}
	holds := func(least, most *intstr.IntOrString) {
		b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
			budget = &policyv1.PodDisruptionBudget{}
			require.NoError(c, b.client.Get(t.Context(), key, budget))
			require.Equal(c, least, budget.Spec.MinAvailable)
			require.Equal(c, most, budget.Spec.MaxUnavailable)
		})
	}
	one := ptr.To(intstr.FromInt32(1))
	holds(nil, one)
	all := &policyv1.PodDisruptionBudgetList{}
	require.NoError(t, b.client.List(t.Context(), all, client.InNamespace(b.namespace)))
	require.Len(t, all.Items, 4)

	budget.Spec.MaxUnavailable = ptr.To(intstr.FromString("100%"))
	require.NoError(t, b.client.Update(t.Context(), budget))
	holds(nil, one)
	require.NoError(t, b.client.Delete(t.Context(), budget))
	holds(nil, one)

	half := ptr.To(intstr.FromString("50%"))
	b.update(func(s *v1alpha1.AtlasStackSpec) {
		s.API.PodDisruptionBudget = &v1alpha1.PodDisruptionBudgetSpec{MinAvailable: half}
	})
	holds(half, nil)
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.API.PodDisruptionBudget = nil })
	holds(nil, one)
	b.untilReady()
}
