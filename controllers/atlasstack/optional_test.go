package atlasstack_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/crdtest"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// child waits for an object of an optional kind that passes the check.
func (b *bundle) child(kind workloads.OptionalKind, name string, check func(c *assert.CollectT, o *unstructured.Unstructured)) *unstructured.Unstructured {
	b.t.Helper()
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(kind.GroupVersionKind)
	require.EventuallyWithT(b.t, func(c *assert.CollectT) {
		require.NoError(c, b.client.Get(b.t.Context(), client.ObjectKey{Namespace: b.namespace, Name: name}, object))
		if check != nil {
			check(c, object)
		}
	}, patience, tick)
	return object
}

func (b *bundle) noChild(object client.Object) {
	b.t.Helper()
	require.EventuallyWithT(b.t, func(c *assert.CollectT) {
		err := b.client.Get(b.t.Context(), client.ObjectKeyFromObject(object), object)
		require.True(c, apierrors.IsNotFound(err), "%v", err)
	}, patience, tick)
}

func readCRD(t *testing.T, kind string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	crd, err := crdtest.Read(t.Context(), kind)
	require.NoError(t, err)
	return crd
}

// TestAKindMayComeAndGo: PodMonitors are not in the cluster when the operator starts, and no other test uses them.
func TestAKindMayComeAndGo(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.create(func(s *v1alpha1.AtlasStackSpec) {
		s.Observability.Monitor = &v1alpha1.MonitorSpec{Kind: workloads.PodMonitor}
	})
	b.finishMigration(true)
	b.condition(exposure, metav1.ConditionFalse, v1alpha1.ReasonCRDMissing,
		"spec.observability.monitor needs the kind PodMonitor of monitoring.coreos.com/v1, which the cluster does not have: install the Prometheus operator")
	b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "")
	b.rollOut()
	b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "") // no pod waits for it
	b.condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonCRDMissing, "PodMonitor")

	kind := workloads.MonitorKind(workloads.PodMonitor)
	for range 2 { // it comes, its object is kept, and it goes
		require.NoError(t, b.client.Create(t.Context(), readCRD(t, crdtest.PodMonitor)))
		b.condition(exposure, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
		b.untilReady()
		monitor := b.child(kind, stackName, nil)

		edited := monitor.DeepCopy()
		require.NoError(t, unstructured.SetNestedMap(edited.Object, map[string]any{}, "spec", "selector", "matchLabels"))
		require.NoError(t, b.client.Update(t.Context(), edited))
		monitor = b.child(kind, stackName, func(c *assert.CollectT, o *unstructured.Unstructured) {
			require.Equal(c, monitor.Object["spec"], o.Object["spec"])
		})
		require.NoError(t, b.client.Delete(t.Context(), monitor))
		b.child(kind, stackName, func(c *assert.CollectT, o *unstructured.Unstructured) {
			require.NotEqual(c, monitor.GetUID(), o.GetUID())
		})

		require.NoError(t, b.client.Delete(t.Context(), readCRD(t, crdtest.PodMonitor)))
		b.condition(exposure, metav1.ConditionFalse, v1alpha1.ReasonCRDMissing, "PodMonitor")
		b.noChild(readCRD(t, crdtest.PodMonitor))
	}
	require.NoError(t, b.client.Create(t.Context(), readCRD(t, crdtest.PodMonitor)))
	b.condition(exposure, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
	other := b.child(kind, stackName, nil)
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Observability.Monitor.Kind = workloads.ServiceMonitor })
	b.noChild(other)
	b.untilReady()
	monitor := b.child(workloads.MonitorKind(workloads.ServiceMonitor), stackName, nil)
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Observability.Monitor = nil })
	b.noChild(monitor)
	b.untilReady()
}
