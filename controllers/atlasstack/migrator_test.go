package atlasstack_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// TestAFinishedMigrationIsKept as the stack's as long as it is there, whatever somebody does to its owner. Once it is gone it is not run again.
func TestAFinishedMigrationIsKept(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*v1alpha1.AtlasStackSpec){
		"running":     func(*v1alpha1.AtlasStackSpec) {},
		"hibernating": func(s *v1alpha1.AtlasStackSpec) { s.Hibernate = true },
		"waiting": func(s *v1alpha1.AtlasStackSpec) {
			s.Postgres.CAFrom = &v1alpha1.CASource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}, Key: "ca"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBundle(t)
			stack := b.bringUp()
			b.update(change)
			job, other := b.migrationJob(), metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "other", UID: "other"}
			for what, edit := range map[string]func(*batchv1.Job){
				"no owner":          func(j *batchv1.Job) { j.OwnerReferences = nil },
				"another one's":     func(j *batchv1.Job) { j.OwnerReferences = []metav1.OwnerReference{other} },
				"no controller":     func(j *batchv1.Job) { j.OwnerReferences[0].Controller = nil },
				"controller: false": func(j *batchv1.Job) { j.OwnerReferences[0].Controller = ptr.To(false) },
			} {
				edited := b.migrationJob()
				edit(edited)
				require.NoError(t, b.client.Update(t.Context(), edited), what)
				var got *batchv1.Job
				require.Eventually(t, func() bool { got = b.migrationJob(); return metav1.IsControlledBy(got, stack) }, patience, tick, what)
				require.Equal(t, job.UID, got.UID, what)
				require.Equal(t, job.Spec, got.Spec, what)
				if what == "another one's" {
					require.Contains(t, got.OwnerReferences, other, what)
				}
			}
		})
	}
}

// TestAMigrationThatIsGoneIsNotRunAgain, and its ServiceAccount comes back nevertheless.
func TestAMigrationThatIsGoneIsNotRunAgain(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	stack := b.bringUp()
	require.NoError(t, b.client.Delete(t.Context(), b.migrationJob(), client.PropagationPolicy(metav1.DeletePropagationBackground)))
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "demo-migrate"}}
	require.NoError(t, b.client.Delete(t.Context(), account))
	require.Eventually(t, func() bool {
		return b.client.Get(t.Context(), client.ObjectKeyFromObject(account), account) == nil && metav1.IsControlledBy(account, stack)
	}, patience, tick)
	for range 3 {
		b.touch()
	}
	jobs := &batchv1.JobList{}
	require.NoError(t, b.client.List(t.Context(), jobs, client.InNamespace(b.namespace)))
	require.Empty(t, jobs.Items)
	b.untilReady()
}

// TestAForeignAccountOfTheMigrationIsTold although nothing is to be migrated.
func TestAForeignAccountOfTheMigrationIsTold(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "demo-migrate"}}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"ownerReferences":null,"labels":{"`+workloads.StackLabel+`":null}}}`))
	require.NoError(t, b.client.Patch(t.Context(), account, patch))
	b.condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonNameTaken, "ServiceAccount demo-migrate exists and does not belong to AtlasStack demo")
}

func (b *bundle) migrationJob() *batchv1.Job {
	b.t.Helper()
	jobs := &batchv1.JobList{}
	require.NoError(b.t, b.client.List(b.t.Context(), jobs, client.InNamespace(b.namespace)))
	require.Len(b.t, jobs.Items, 1)
	return &jobs.Items[0]
}

// TestATakenNameIsLookedAtSoon, because nothing tells the operator when an object of somebody else's goes.
func TestATakenNameIsLookedAtSoon(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.EnvtestAssets)
	w, err := newWorld(t.Context(), theSuite)
	require.NoError(t, err)
	foreign := &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "demo-api"},
		Spec:       networkingv1.IngressSpec{DefaultBackend: &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "x", Port: networkingv1.ServiceBackendPort{Number: 1}}}},
	}
	require.NoError(t, w.client.Create(t.Context(), foreign))
	require.NoError(t, w.create())
	require.Error(t, w.settle())
	w.operator.Interval *= 10
	result, err := w.operator.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Namespace: w.namespace, Name: stackName}})
	require.NoError(t, err)
	stack, err := w.stack()
	require.NoError(t, err)
	stalled := meta.FindStatusCondition(stack.Status.Conditions, v1alpha1.ConditionStalled)
	require.NotNil(t, stalled)
	require.Contains(t, stalled.Message, "Ingress demo-api exists and does not belong to AtlasStack demo")
	require.Positive(t, result.RequeueAfter)
	require.Less(t, result.RequeueAfter, time.Minute, "not at the interval only")
	require.NoError(t, w.client.Delete(t.Context(), foreign))
	require.NoError(t, w.settle())
}
