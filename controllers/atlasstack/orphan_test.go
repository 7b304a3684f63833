package atlasstack_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// orphan removes the reference to an object's owner, as somebody may, and as Kubernetes does for kubectl delete --cascade=orphan.
func (b *bundle) orphan(o client.Object) {
	b.t.Helper()
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"ownerReferences":null}}`))
	require.NoError(b.t, b.client.Patch(b.t.Context(), o, patch, client.FieldOwner("kubectl-edit")))
	require.Empty(b.t, o.GetOwnerReferences())
}

// TestTheObjectsOfAnEarlierStackAreTakenOver, when it was deleted without them. Only its migration does not count: others may have migrated the database since.
func TestTheObjectsOfAnEarlierStackAreTakenOver(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	stack := b.bringUp()
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Paused = true })
	b.condition(v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonPaused, "")
	before := map[string]types.UID{}
	for _, child := range b.children() {
		b.orphan(&child)
		before[child.GetKind()+"/"+child.GetName()] = child.GetUID()
	}
	jobs := &batchv1.JobList{}
	require.NoError(t, b.client.List(t.Context(), jobs, client.InNamespace(b.namespace)))
	require.Len(t, jobs.Items, 1)
	b.orphan(&jobs.Items[0])
	require.NoError(t, b.client.Delete(t.Context(), stack))
	b.gone()

	require.NoError(t, b.client.Create(t.Context(), b.stack()))
	require.NotEqual(t, jobs.Items[0].UID, b.finishMigration(true).UID)
	stack = b.untilReady()
	for _, child := range b.children() {
		require.True(t, metav1.IsControlledBy(&child, stack), "%s %s", child.GetKind(), child.GetName())
		require.Equal(t, before[child.GetKind()+"/"+child.GetName()], child.GetUID(), "%s %s", child.GetKind(), child.GetName())
	}
}

// TestAnOrphanIsRemoved when the spec does not ask for it any more.
func TestAnOrphanIsRemoved(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	withIngress := func(s *v1alpha1.AtlasStackSpec) {
		s.Networking.Ingress = &v1alpha1.IngressSpec{Host: "atlas.example.com"}
	}
	b.bringUp(withIngress)
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Paused = true })
	b.condition(v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonPaused, "")
	ingress := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "demo-api"}}
	b.orphan(ingress)
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Paused, s.Networking.Ingress = false, nil })
	b.noChild(ingress)
}

// TestARunningMigrationIsTakenBack and goes on.
func TestARunningMigrationIsTakenBack(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.create()
	job := b.migration()
	b.orphan(job)
	require.Eventually(t, func() bool {
		got := &batchv1.Job{}
		err := b.client.Get(t.Context(), client.ObjectKeyFromObject(job), got)
		return err == nil && metav1.GetControllerOf(got) != nil && got.UID == job.UID
	}, patience, tick)
	b.finishMigration(true)
	b.untilReady()
}

// TestLabelsAloneMakeNoOrphan: somebody may have copied them.
func TestLabelsAloneMakeNoOrphan(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	foreign := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "demo-api", Labels: workloads.Labels(b.stack(), workloads.RoleAPI)},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1234}}},
	}
	require.NoError(t, b.client.Create(t.Context(), foreign))
	ops := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "demo-api-ops", Labels: workloads.Labels(b.stack(), workloads.RoleAPI)},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1234}}},
	}
	require.NoError(t, b.client.Create(t.Context(), ops))
	b.create()
	b.finishMigration(true)
	b.condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonNameTaken, "Service demo-api exists and does not belong to AtlasStack demo")
	require.False(t, apierrors.IsNotFound(b.client.Get(t.Context(), client.ObjectKeyFromObject(ops), ops)), "not asked for, and not removed")
}
