package atlasstack_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/crdtest"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// TestKEDAScalesTheWorker is the only test with KEDA's kinds, which are not in the cluster at first.
func TestKEDAScalesTheWorker(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp(func(s *v1alpha1.AtlasStackSpec) { s.Worker.Replicas = ptr.To(int32(3)) })
	h := b.follow(workloads.RoleWorker)
	b.update(func(s *v1alpha1.AtlasStackSpec) {
		s.Worker.Replicas, s.Worker.Autoscaling = nil, lag(v1alpha1.LagFromKEDA)
	})
	b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionFalse, v1alpha1.ReasonCRDMissing,
		"spec.worker.autoscaling.lag.source needs the kind TriggerAuthentication of keda.sh/v1alpha1, which the cluster does not have: install KEDA")
	require.Equal(t, int32(3), *b.deployment(workloads.RoleWorker).Spec.Replicas)

	for _, kind := range []string{crdtest.TriggerAuthentication, crdtest.ScaledObject} {
		require.NoError(t, b.client.Create(t.Context(), readCRD(t, kind)))
	}
	login := b.child(workloads.TriggerAuthenticationKind(), "demo-worker", nil)
	require.Equal(t, map[string]any{"secretTargetRef": []any{map[string]any{"parameter": "connection", "name": "postgres", "key": "url"}}}, login.Object["spec"])
	scaled := b.child(workloads.ScaledObjectKind(), "demo-worker", nil)
	most, _, err := unstructured.NestedInt64(scaled.Object, "spec", "maxReplicaCount")
	require.NoError(t, err)
	require.Equal(t, int64(5), most)
	b.untilReady()

	// Drift is put right; what KEDA adds stays, and is no reason to write.
	require.NoError(t, unstructured.SetNestedField(scaled.Object, int64(50), "spec", "maxReplicaCount"))
	scaled.SetFinalizers([]string{"finalizer.keda.sh"})
	require.NoError(t, b.client.Update(t.Context(), scaled))
	scaled = b.child(workloads.ScaledObjectKind(), "demo-worker", func(c *assert.CollectT, o *unstructured.Unstructured) {
		most, _, err := unstructured.NestedInt64(o.Object, "spec", "maxReplicaCount")
		require.NoError(c, err)
		require.Equal(c, int64(5), most)
	})
	require.Equal(t, []string{"finalizer.keda.sh"}, scaled.GetFinalizers())

	// From KEDA to the operator's own autoscaler: the two would fight, and KEDA refuses a target that has another.
	scaled.SetFinalizers(nil)
	require.NoError(t, b.client.Update(t.Context(), scaled))
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Worker.Autoscaling.Lag.Source = v1alpha1.LagFromExternalMetric })
	b.noChild(scaled)
	b.noChild(login)
	b.hasAutoscaler(workloads.RoleWorker, true)
	b.untilReady()

	// And back, and asleep.
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Worker.Autoscaling.Lag.Source = v1alpha1.LagFromKEDA })
	b.hasAutoscaler(workloads.RoleWorker, false)
	b.child(workloads.ScaledObjectKind(), "demo-worker", nil)
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Hibernate = true })
	b.noChild(scaled)
	b.untilReady()
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Hibernate = false })
	b.child(workloads.ScaledObjectKind(), "demo-worker", nil)
	b.untilReady()
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) { require.Equal(c, []int32{3, 0, 1}, h.values()) })
}
