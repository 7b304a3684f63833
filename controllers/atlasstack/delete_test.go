package atlasstack_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/topic"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

const topicName = "atlas.domain-events.v1"

func dropAll(s *v1alpha1.AtlasStackSpec) {
	s.Kafka.DeletionPolicy, s.Elasticsearch.DeletionPolicy = v1alpha1.DeletionDelete, v1alpha1.DeletionDelete
}

func TestRetainNeedsNoOperator(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	stack := b.bringUp()
	require.Empty(t, stack.Finalizers)
	require.Equal(t, &v1alpha1.TopicStatus{ClusterID: "id-of-" + b.kafka.address, Name: topicName}, stack.Status.Topic)
	require.Equal(t, &v1alpha1.SearchIndexStatus{ClusterUUID: "uuid-of-" + b.elastic.address, Alias: "atlas-items"}, stack.Status.SearchIndex)
	b.remove()
	b.gone()
	require.Len(t, b.kafka.has(), 2)
	require.True(t, b.elastic.there())
}

// TestDeleteWaitsForThePods, which would make topic and index again, and then leaves nothing.
func TestDeleteWaitsForThePods(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	stack := b.bringUp(dropAll)
	require.True(t, controllerutil.ContainsFinalizer(stack, v1alpha1.CleanupFinalizer))
	b.kafka.join(topicName+"-indexer", topicName+"-audit", "somebody-else")
	b.addPod(workloads.RoleIndexer, nil, corev1.ContainerStatus{})
	b.remove()
	stack = b.condition(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonTerminating, "pod indexer-")
	b.condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonTerminating, "is ending")
	require.Empty(t, b.deployments())
	require.Len(t, b.kafka.has(), 5)
	require.True(t, b.elastic.there())
	require.False(t, stack.DeletionTimestamp.IsZero())

	b.endPods()
	b.gone()
	require.Equal(t, []string{"somebody-else"}, b.kafka.has())
	require.False(t, b.elastic.there())
	require.Contains(t, b.event("CleanedUp").Note, "is deleted")
}

func TestFinalizerIsThereOnlyWhileAPolicyIsDelete(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Elasticsearch.DeletionPolicy = v1alpha1.DeletionDelete })
	b.eventually(func(c *assert.CollectT, stack *v1alpha1.AtlasStack) {
		require.True(c, controllerutil.ContainsFinalizer(stack, v1alpha1.CleanupFinalizer))
	})
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Elasticsearch.DeletionPolicy = v1alpha1.DeletionRetain })
	b.eventually(func(c *assert.CollectT, stack *v1alpha1.AtlasStack) { require.Empty(c, stack.Finalizers) })

	// One policy drops one of the two.
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Kafka.DeletionPolicy = v1alpha1.DeletionDelete })
	b.eventually(func(c *assert.CollectT, stack *v1alpha1.AtlasStack) { require.NotEmpty(c, stack.Finalizers) })
	b.remove()
	b.gone()
	require.Empty(t, b.kafka.has())
	require.True(t, b.elastic.there())
}

// TestWhatTheStackNeverHadStays: a topic that the stack could not take over is not deleted with it.
func TestWhatTheStackNeverHadStays(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	require.NoError(t, b.kafka.Create(t.Context(), topic.Spec{Name: topicName, Partitions: 6, ReplicationFactor: 3}))
	b.create(dropAll)
	b.finishMigration(true)
	stack := b.condition(v1alpha1.ConditionTopicReady, metav1.ConditionFalse, v1alpha1.ReasonForbiddenChange, "replication factor")
	require.Nil(t, stack.Status.Topic)
	b.remove()
	b.gone()
	require.Equal(t, []string{topicName}, b.kafka.has())
	require.False(t, b.elastic.there())
}

// TestSkippedCleanupSaysWhatIsLeft: the broker is gone, and somebody is in a hurry.
func TestSkippedCleanupSaysWhatIsLeft(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp(dropAll)
	b.kafka.setDown(true)
	b.remove()
	b.condition(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonTerminating, "no Kafka broker can be reached")
	require.False(t, b.elastic.there(), "one outage holds nothing else up")
	b.annotate(v1alpha1.SkipCleanupAnnotation, "true")
	b.gone()
	require.Len(t, b.kafka.has(), 2)
	e := b.event("LeftBehind")
	require.Equal(t, corev1.EventTypeWarning, e.Type)
	for _, part := range []string{topicName + " and " + topicName + ".dlq", topicName + "-indexer and " + topicName + "-audit", b.kafka.address, "skip-cleanup"} {
		require.Contains(t, e.Note, part)
	}
}

func TestPausedStackGoesAndTouchesNothing(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp(dropAll)
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Paused = true })
	b.condition(v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonPaused, "")
	b.remove()
	b.gone()
	require.Len(t, b.kafka.has(), 2)
	require.Len(t, b.deployments(), 4)
	require.Contains(t, b.event("LeftBehind").Note, "spec.paused is true")
}

// TestJobsAreCancelledWhileTheAPIRuns: a stack with an AtlasJob that was submitted waits for it.
func TestJobsAreCancelledWhileTheAPIRuns(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	b.submit("pending")
	running := b.submit("running", v1alpha1.CancelJobFinalizer)
	b.eventually(func(c *assert.CollectT, stack *v1alpha1.AtlasStack) {
		require.True(c, controllerutil.ContainsFinalizer(stack, v1alpha1.CleanupFinalizer))
	})
	b.remove()
	b.condition(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonTerminating, "AtlasJob running is being cancelled")
	require.NoError(t, b.client.Get(t.Context(), client.ObjectKeyFromObject(running), running))
	require.False(t, running.DeletionTimestamp.IsZero())
	require.Len(t, b.deployments(), 4, "the API has to run")

	b.finish("running")
	b.gone()
	require.Len(t, b.jobs(), 1, "one that was never submitted waits for the next stack of this name")
}

func TestJobHoldsItsStackUntilItIsDone(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	b.submit("running", v1alpha1.CancelJobFinalizer)
	b.eventually(func(c *assert.CollectT, stack *v1alpha1.AtlasStack) { require.NotEmpty(c, stack.Finalizers) })
	b.finish("running")
	b.eventually(func(c *assert.CollectT, stack *v1alpha1.AtlasStack) { require.Empty(c, stack.Finalizers) })
}

func (b *bundle) submit(name string, finalizers ...string) *v1alpha1.AtlasJob {
	b.t.Helper()
	job := &v1alpha1.AtlasJob{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name, Finalizers: finalizers}}
	job.Spec.StackRef.Name, job.Spec.Type, job.Spec.Reindex = stackName, v1alpha1.AtlasJobTypeReindex, &v1alpha1.ReindexJob{}
	require.NoError(b.t, b.client.Create(b.t.Context(), job))
	return job
}

// finish plays the controller of AtlasJobs, whose job is final.
func (b *bundle) finish(name string) {
	b.t.Helper()
	job := &v1alpha1.AtlasJob{}
	require.NoError(b.t, b.client.Get(b.t.Context(), client.ObjectKey{Namespace: b.namespace, Name: name}, job))
	before := job.DeepCopy()
	controllerutil.RemoveFinalizer(job, v1alpha1.CancelJobFinalizer)
	require.NoError(b.t, b.client.Patch(b.t.Context(), job, client.MergeFrom(before)))
}

func (b *bundle) remove() {
	b.t.Helper()
	require.NoError(b.t, b.client.Delete(b.t.Context(), &v1alpha1.AtlasStack{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: stackName}}))
}

func (b *bundle) gone() {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		err := b.client.Get(b.t.Context(), client.ObjectKey{Namespace: b.namespace, Name: stackName}, &v1alpha1.AtlasStack{})
		return apierrors.IsNotFound(err)
	}, patience, tick)
}

// endPods plays the kubelet.
func (b *bundle) endPods() {
	b.t.Helper()
	require.NoError(b.t, b.client.DeleteAllOf(b.t.Context(), &corev1.Pod{}, client.InNamespace(b.namespace), client.GracePeriodSeconds(0)))
}

// event waits for an Event with a reason.
func (b *bundle) event(reason string) (found eventsv1.Event) {
	b.t.Helper()
	require.EventuallyWithT(b.t, func(c *assert.CollectT) {
		list := &eventsv1.EventList{}
		require.NoError(c, b.client.List(b.t.Context(), list, client.InNamespace(b.namespace)))
		for _, e := range list.Items {
			if e.Reason == reason {
				found = e
			}
		}
		require.Equal(c, reason, found.Reason)
	}, patience, tick)
	return found
}
