package atlasstack_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// served are the pods that the test, in the place of the Deployment controller, has made ready, by Deployment.
type served struct {
	mu   sync.Mutex
	pods map[string][]servedPods
}

// servedPods are those of one roll-out, as far as they follow from the spec.
type servedPods struct {
	image, level string
	resources    corev1.ResourceRequirements
	replicas     int32
}

// add is called before anybody can see those pods.
func (s *served) add(d *appsv1.Deployment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	container := d.Spec.Template.Spec.Containers[0]
	for _, variable := range container.Env {
		if variable.Name == "LOG_LEVEL" {
			s.pods[d.Name] = append(s.pods[d.Name], servedPods{container.Image, variable.Value, container.Resources, *d.Spec.Replicas})
		}
	}
}

// have is true when a role once had the pods that the spec asks for.
func (s *served) have(stack *v1alpha1.AtlasStack, role workloads.Role) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	replicas, component := workloads.Replicas(stack, role), workloads.Component(stack, role)
	return slices.ContainsFunc(s.pods[workloads.Name(stack, role)], func(pods servedPods) bool {
		return pods.image == stack.Spec.Image && pods.level == stack.Spec.LogLevel &&
			(replicas == nil || pods.replicas == *replicas) && // an autoscaler says how many
			(component.PodTemplate != nil || equality.Semantic.DeepEqual(pods.resources, component.Resources)) // which may change them
	})
}

// watchKstatus compares what kstatus says of every version of the test's stack with what was there.
func (b *bundle) watchKstatus() {
	b.t.Helper()
	b.served = &served{pods: map[string][]servedPods{}}
	versions, err := b.client.Watch(b.t.Context(), &v1alpha1.AtlasStackList{}, client.InNamespace(b.namespace))
	require.NoError(b.t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for event := range versions.ResultChan() {
			if stack, ok := event.Object.(*v1alpha1.AtlasStack); ok {
				b.checkKstatus(stack)
			}
		}
	}()
	b.t.Cleanup(func() {
		versions.Stop()
		<-done
	})
}

func (b *bundle) checkKstatus(stack *v1alpha1.AtlasStack) {
	said := b.kstatusOf(stack)
	is := func(kind string) bool {
		c := meta.FindStatusCondition(stack.Status.Conditions, kind)
		return c != nil && c.Status == metav1.ConditionTrue && c.ObservedGeneration == stack.Generation
	}
	if !stack.DeletionTimestamp.IsZero() {
		assert.Equal(b.t, status.TerminatingStatus, said)
		return
	}
	if stack.Status.ObservedGeneration == stack.Generation {
		assert.Equal(b.t, is(v1alpha1.ConditionReady), said == status.CurrentStatus, "%v", stack.Status.Conditions)
		assert.Equal(b.t, is(v1alpha1.ConditionStalled), said == status.FailedStatus, "%v", stack.Status.Conditions)
	}
	if said != status.CurrentStatus {
		return
	}
	for _, role := range workloads.Roles() {
		assert.True(b.t, b.served.have(stack, role), "kstatus says Current of generation %d before the pods of %s are there", stack.Generation, role)
	}
	if stack.Spec.Hibernate {
		assert.Empty(b.t, b.runningPods(), "kstatus says Current of generation %d, which is to have no pods", stack.Generation)
	}
}

// runningPods are the names of the pods that have not ended.
func (b *bundle) runningPods() (names []string) {
	pods := &corev1.PodList{}
	err := b.client.List(context.WithoutCancel(b.t.Context()), pods, client.InNamespace(b.namespace), client.MatchingLabels{workloads.StackLabel: stackName})
	assert.NoError(b.t, err)
	for i := range pods.Items {
		if phase := pods.Items[i].Status.Phase; phase != corev1.PodSucceeded && phase != corev1.PodFailed {
			names = append(names, pods.Items[i].Name)
		}
	}
	return names
}

// TestKstatusOfEveryTransition goes through what happens to a stack; watchKstatus looks at each of its versions.
func TestKstatusOfEveryTransition(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	stack := b.bringUp()
	require.Equal(t, status.CurrentStatus, b.kstatusOf(stack))
	for i, change := range []func(*v1alpha1.AtlasStackSpec){
		func(s *v1alpha1.AtlasStackSpec) { s.LogLevel = "debug" },
		func(s *v1alpha1.AtlasStackSpec) { s.Worker.Replicas = ptr.To(int32(3)) },
		func(s *v1alpha1.AtlasStackSpec) { s.Audit.Resources = cpuRequest() },
		func(s *v1alpha1.AtlasStackSpec) { s.Image = "registry.example.com/atlas:2.0.0" },
		func(s *v1alpha1.AtlasStackSpec) { s.Image, s.LogLevel = "registry.example.com/atlas:3.0.0", "warn" },
		func(s *v1alpha1.AtlasStackSpec) { s.Hibernate = true },
		func(s *v1alpha1.AtlasStackSpec) { s.Hibernate, s.LogLevel = false, "error" },
	} {
		image := stack.Spec.Image
		b.update(change)
		b.eventually(func(c *assert.CollectT, now *v1alpha1.AtlasStack) {
			require.Equal(c, now.Generation, now.Status.ObservedGeneration, "change %d", i)
			stack = now
		})
		require.Equal(t, status.InProgressStatus, b.kstatusOf(stack), "change %d is not rolled out", i)
		if stack.Spec.Image != image {
			b.finishMigration(true)
		}
		stack = b.untilReady()
	}
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Paused = true })
	require.Equal(t, status.InProgressStatus, b.kstatusOf(b.condition(v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonPaused, "")))
}
