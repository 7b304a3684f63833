package atlasstack_test

import (
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
	"github.com/atlas-platform/atlas/internal/testenv"
)

func hibernating(s *v1alpha1.AtlasStackSpec) { s.Hibernate = true }

// runPod creates a pod on a node, where it goes on after it was told to end: there is no kubelet here.
func (s *suite) runPod(t *testing.T, namespace, stack string, role workloads.Role, name string, phase corev1.PodPhase) *corev1.Pod {
	t.Helper()
	owner := &v1alpha1.AtlasStack{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: stack}}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: workloads.Labels(owner, role)},
		Spec: corev1.PodSpec{
			NodeName: "node", TerminationGracePeriodSeconds: ptr.To(int64(35)), Containers: []corev1.Container{{Name: "atlas", Image: image}},
		},
	}
	require.NoError(t, s.client.Create(t.Context(), pod))
	pod.Status.Phase = phase
	require.NoError(t, s.client.Status().Update(t.Context(), pod))
	return pod
}

// tellToEnd is what the controller of a ReplicaSet does, and end is what the kubelet does when the last process has ended.
func (s *suite) tellToEnd(t *testing.T, pods ...*corev1.Pod) {
	t.Helper()
	for _, pod := range pods {
		require.NoError(t, s.client.Delete(t.Context(), pod))
		require.NoError(t, s.client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod), "the test wants it to stay")
		require.NotNil(t, pod.DeletionTimestamp)
	}
}

func (s *suite) end(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	require.NoError(t, s.client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)))
}

// TestHibernatedOnceTheLastPodHasEnded: a Deployment does not count the pods that are ending, and no watch tells of them.
func TestHibernatedOnceTheLastPodHasEnded(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	first := b.runPod(t, b.namespace, stackName, workloads.RoleAPI, "demo-api-1", corev1.PodRunning)
	second := b.runPod(t, b.namespace, stackName, workloads.RoleAPI, "demo-api-2", corev1.PodRunning)
	b.update(hibernating)
	b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "is ending its old pods")
	b.tellToEnd(t, first, second)
	b.rollOut()
	b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "waiting for 2 pods to end: demo-api-1, demo-api-2")
	b.end(t, first)
	stack := b.condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "waiting for 1 pod to end: demo-api-2")
	require.Equal(t, status.InProgressStatus, b.kstatusOf(stack))
	b.end(t, second)
	stack = b.condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonHibernated, "no role has pods")
	require.Equal(t, status.CurrentStatus, b.kstatusOf(stack))
}

// asleep is a world whose stack hibernates and whose Deployments have no pods any more.
func asleep(t *testing.T) *world {
	t.Helper()
	testenv.Require(t, testenv.EnvtestAssets)
	w, err := newWorld(t.Context(), theSuite)
	require.NoError(t, err)
	require.NoError(t, w.create())
	require.NoError(t, w.settle())
	require.NoError(t, w.update(hibernating))
	require.NoError(t, w.turn())
	_, err = w.play()
	require.NoError(t, err)
	return w
}

// look is a turn. It returns what Ready says after it, and when the operator looks again.
func (w *world) look(t *testing.T) (*metav1.Condition, time.Duration) {
	t.Helper()
	result, err := w.operator.Reconcile(w.ctx, reconcile.Request{NamespacedName: client.ObjectKey{Namespace: w.namespace, Name: stackName}})
	require.NoError(t, err)
	stack, err := w.stack()
	require.NoError(t, err)
	ready := meta.FindStatusCondition(stack.Status.Conditions, v1alpha1.ConditionReady)
	require.Equal(t, stack.Generation, ready.ObservedGeneration)
	return ready, result.RequeueAfter
}

// TestHibernationWaitsForEveryRolesPods, and reads no pods any more when it has seen that there are none.
func TestHibernationWaitsForEveryRolesPods(t *testing.T) {
	t.Parallel()
	w := asleep(t)
	w.runPod(t, w.namespace, stackName, workloads.RoleAPI, "demo-api-evicted", corev1.PodFailed)
	w.runPod(t, w.namespace, stackName, workloads.RoleMigrate, "demo-migrate-done", corev1.PodSucceeded)
	w.runPod(t, w.namespace, "other", workloads.RoleAPI, "other-api-1", corev1.PodRunning)
	w.runPod(t, w.namespace, stackName, "backup", "demo-backup", corev1.PodRunning)
	for _, role := range append(workloads.Roles(), workloads.RoleMigrate) {
		phase := corev1.PodRunning
		if role == workloads.RoleWorker {
			phase = corev1.PodPending
		}
		name := stackName + "-" + string(role) + "-1"
		pod := w.runPod(t, w.namespace, stackName, role, name, phase)
		w.tellToEnd(t, pod)
		ready, again := w.look(t)
		require.Equal(t, metav1.ConditionFalse, ready.Status, role)
		require.Equal(t, "WorkloadsReady: waiting for 1 pod to end: "+name, ready.Message)
		require.Less(t, again, 3*time.Second, "nothing else tells of its end")
		w.end(t, pod)
	}
	ready, _ := w.look(t)
	require.Equal(t, v1alpha1.ReasonHibernated, ready.Reason, ready.Message)
	require.Equal(t, metav1.ConditionTrue, ready.Status)

	reads := w.writes.podReads(w.namespace)
	require.NotZero(t, reads)
	for range 5 {
		w.look(t)
	}
	require.Equal(t, reads, w.writes.podReads(w.namespace), "a stack at rest costs reads")
	require.NoError(t, w.update(func(s *v1alpha1.AtlasStackSpec) { s.LogLevel = "debug" }))
	require.NoError(t, w.settle())
	require.Greater(t, w.writes.podReads(w.namespace), reads, "its pods may be others")
}

// TestHibernationNamesAFewOfManyPods, for a message has an end.
func TestHibernationNamesAFewOfManyPods(t *testing.T) {
	t.Parallel()
	w := asleep(t)
	for i := range 60 {
		w.runPod(t, w.namespace, stackName, workloads.RoleWorker, "demo-worker-"+string(rune('a'+i/26))+string(rune('a'+i%26)), corev1.PodRunning)
		if i == 6 {
			ready, _ := w.look(t)
			require.Contains(t, ready.Message, "waiting for 7 pods to end: demo-worker-aa, demo-worker-ab, demo-worker-ac, demo-worker-ad, demo-worker-ae and others")
		}
	}
	ready, _ := w.look(t)
	require.Contains(t, ready.Message, "waiting for more than 50 pods to end: demo-worker-aa, ")
}

// TestHibernationWaitsForTheMigration, also between two of its pods.
func TestHibernationWaitsForTheMigration(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Image = nextImage })
	job := b.migration()
	b.addPod(workloads.RoleMigrate, map[string]string{batchv1.ControllerUidLabel: string(job.UID)}, corev1.ContainerStatus{
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such image"}},
	})
	b.update(hibernating)
	b.eventually(func(c *assert.CollectT, stack *v1alpha1.AtlasStack) {
		b.rollOut()
		ready := meta.FindStatusCondition(stack.Status.Conditions, v1alpha1.ConditionReady)
		require.Contains(c, ready.Message, "waiting for migration Job "+job.Name+" to end (pod migrate-")
		require.Contains(c, ready.Message, "can't be pulled (no such image): correct spec.image, or spec.imagePullSecrets); delete it if it is not to go on")
		require.Equal(c, metav1.ConditionFalse, ready.Status)
	})
	b.endPods()
	b.condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "waiting for migration Job "+job.Name+" to end; delete it")
	b.finishMigration(true)
	b.condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonHibernated, "")

	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Hibernate = false })
	require.Equal(t, "2.0.0", b.untilReady().Status.Version)
}
