package atlasstack_test

import (
	"sync"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// history is every number of pods that a Deployment was ever asked for, as a watch sees it.
type history struct {
	mu   sync.Mutex
	seen []int32
}

func (h *history) values() []int32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]int32(nil), h.seen...)
}

// follow watches the role's Deployment from now on.
func (b *bundle) follow(role workloads.Role) *history {
	b.t.Helper()
	watcher, err := b.client.Watch(b.t.Context(), &appsv1.DeploymentList{}, client.InNamespace(b.namespace),
		client.MatchingLabels{"app.kubernetes.io/component": string(role)})
	require.NoError(b.t, err)
	b.t.Cleanup(watcher.Stop)
	h := &history{}
	go func() {
		for event := range watcher.ResultChan() {
			d, ok := event.Object.(*appsv1.Deployment)
			if !ok || d.Spec.Replicas == nil {
				continue
			}
			h.mu.Lock()
			if n := len(h.seen); n == 0 || h.seen[n-1] != *d.Spec.Replicas {
				h.seen = append(h.seen, *d.Spec.Replicas)
			}
			h.mu.Unlock()
		}
	}()
	return h
}

// scale plays the HorizontalPodAutoscaler, or a person: a write to the Deployment's subresource scale.
func (b *bundle) scale(role workloads.Role, replicas int32) {
	b.t.Helper()
	d := b.deployment(role)
	err := b.client.SubResource("scale").Update(b.t.Context(), d, client.WithSubResourceBody(
		&autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: replicas}}), client.FieldOwner("kube-controller-manager"))
	require.NoError(b.t, err)
}

func (b *bundle) autoscaler(role workloads.Role) (*autoscalingv2.HorizontalPodAutoscaler, error) {
	hpa := &autoscalingv2.HorizontalPodAutoscaler{}
	err := b.client.Get(b.t.Context(), client.ObjectKey{Namespace: b.namespace, Name: stackName + "-" + string(role)}, hpa)
	return hpa, err
}

func (b *bundle) hasAutoscaler(role workloads.Role, want bool) {
	b.t.Helper()
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
		_, err := b.autoscaler(role)
		if want {
			require.NoError(c, err)
		} else {
			require.True(c, apierrors.IsNotFound(err))
		}
	})
}

func autoscaled(least, most int32) func(*v1alpha1.AtlasStackSpec) {
	return func(s *v1alpha1.AtlasStackSpec) {
		s.API.Replicas, s.API.Resources = nil, cpuRequest()
		s.API.Autoscaling = &v1alpha1.AutoscalingSpec{MinReplicas: least, MaxReplicas: most}
	}
}

func fixed(replicas int32) func(*v1alpha1.AtlasStackSpec) {
	return func(s *v1alpha1.AtlasStackSpec) {
		s.API.Resources, s.API.Autoscaling, s.API.Replicas = cpuRequest(), nil, ptr.To(replicas)
	}
}

func TestHandOverToAnAutoscalerAndBackDropsNoPod(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp(fixed(5))
	h := b.follow(workloads.RoleAPI)

	b.update(autoscaled(2, 20))
	b.hasAutoscaler(workloads.RoleAPI, true)
	b.untilReady()
	b.scale(workloads.RoleAPI, 9)
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.LogLevel = "debug" }) // applied again, also by an operator that was restarted
	stack := b.untilReady()
	require.Equal(t, v1alpha1.ComponentStatus{Name: "api", Desired: 9, Ready: 9}, stack.Status.Components[0])

	b.update(fixed(4))
	b.hasAutoscaler(workloads.RoleAPI, false)
	b.untilReady()
	b.update(autoscaled(2, 20))
	b.hasAutoscaler(workloads.RoleAPI, true)
	b.untilReady()
	b.update(fixed(6))
	b.hasAutoscaler(workloads.RoleAPI, false)
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) { require.Equal(c, []int32{5, 9, 4, 6}, h.values()) })
	// A person's number is put right, as ever, now that nobody else owns it.
	b.scale(workloads.RoleAPI, 1)
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
		require.Equal(c, []int32{5, 9, 4, 6, 1, 6}, h.values())
	})
}

func TestAnAutoscaledRoleStartsAndSleepsAndWakes(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp(autoscaled(3, 8))
	hpa, err := b.autoscaler(workloads.RoleAPI)
	require.NoError(t, err)
	require.Equal(t, int32(3), *hpa.Spec.MinReplicas)
	b.scale(workloads.RoleAPI, 7)
	b.untilReady()
	h := b.follow(workloads.RoleAPI)

	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Hibernate = true })
	stack := b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "is ending its old pods")
	require.Equal(t, status.InProgressStatus, b.kstatusOf(stack))
	stack = b.untilReady()
	b.hasAutoscaler(workloads.RoleAPI, false)
	require.Equal(t, status.CurrentStatus, b.kstatusOf(stack))
	ready := meta.FindStatusCondition(stack.Status.Conditions, v1alpha1.ConditionReady)
	require.Equal(t, v1alpha1.ReasonHibernated, ready.Reason)
	for _, d := range b.deployments() {
		require.Zero(t, *d.Spec.Replicas, d.Name)
	}

	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Hibernate = false })
	b.hasAutoscaler(workloads.RoleAPI, true)
	stack = b.untilReady()
	require.Equal(t, v1alpha1.ReasonReady, meta.FindStatusCondition(stack.Status.Conditions, v1alpha1.ConditionReady).Reason)
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
		require.Equal(c, []int32{7, 0, 3}, h.values(), "an autoscaler leaves a Deployment without pods alone")
	})
	require.Equal(t, int32(1), *b.deployment(workloads.RoleWorker).Spec.Replicas)
}

func TestSomebodysZeroUnderAnAutoscalerStays(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp(fixed(2))
	b.update(autoscaled(2, 4))
	b.hasAutoscaler(workloads.RoleAPI, true)
	b.scale(workloads.RoleAPI, 0)
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.LogLevel = "debug" })
	b.untilReady()
	b.touch()
	require.Zero(t, *b.deployment(workloads.RoleAPI).Spec.Replicas, "scaling to 0 is how an autoscaler is paused")
}

// TestHibernationNeedsNothing stops the pods while Kafka and Elasticsearch are away, and makes no connection to them.
func TestHibernationNeedsNothing(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	b.kafka.setDown(true)
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Hibernate = true; s.Image = "registry.example.com/atlas:2.0.0" })
	stack := b.untilReady()
	require.Equal(t, "1.0.0", stack.Status.Version, "no pod runs the other version, and no database has its schema")
	b.condition(v1alpha1.ConditionTopicReady, metav1.ConditionUnknown, v1alpha1.ReasonHibernated, "not looked at")
	b.condition(v1alpha1.ConditionMigrationsApplied, metav1.ConditionUnknown, v1alpha1.ReasonHibernated, "not looked at")

	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Hibernate = false })
	b.condition(v1alpha1.ConditionTopicReady, metav1.ConditionFalse, v1alpha1.ReasonUnreachable, "")
	b.kafka.setDown(false)
	b.finishMigration(true)
	require.Equal(t, "2.0.0", b.untilReady().Status.Version)
}

func TestHibernationStopsThePodsWithoutASecret(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp(autoscaled(2, 8))
	b.scale(workloads.RoleAPI, 4)
	b.untilReady()
	h := b.follow(workloads.RoleAPI)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "postgres"}}
	require.NoError(t, b.client.Delete(t.Context(), secret))
	b.condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotFound, "")
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Hibernate = true })
	b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionFalse, v1alpha1.ReasonWaiting, "the pods are stopped")
	for _, d := range b.deployments() {
		require.Zero(t, *d.Spec.Replicas, d.Name)
	}
	b.hasAutoscaler(workloads.RoleAPI, false)

	b.createSecret("postgres", map[string]string{"url": databaseURL})
	b.untilReady()
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Hibernate = false })
	b.hasAutoscaler(workloads.RoleAPI, true)
	b.untilReady()
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) { require.Equal(c, []int32{4, 0, 2}, h.values()) })
	require.Equal(t, int32(1), *b.deployment(workloads.RoleWorker).Spec.Replicas)
}

// TestReadyStaysWhileAnAutoscalerScales looks at what an autoscaler's work makes of the conditions, with what the Deployment controller would report.
func TestReadyStaysWhileAnAutoscalerScales(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp(autoscaled(2, 10))
	b.report(workloads.RoleAPI, 1, 1, 1, "NewReplicaSetAvailable")
	b.scale(workloads.RoleAPI, 4)
	b.report(workloads.RoleAPI, 4, 4, 2, "NewReplicaSetAvailable")
	stack := b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "Deployment demo-api scales, 2 of 4 pods are ready")
	require.Equal(t, status.CurrentStatus, b.kstatusOf(stack))
	require.Equal(t, v1alpha1.ComponentStatus{Name: "api", Desired: 4, Ready: 2}, stack.Status.Components[0])

	// Below its least number it is not as the spec asks.
	b.report(workloads.RoleAPI, 4, 4, 1, "NewReplicaSetAvailable")
	b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "has 1 of 4 pods ready")
	b.report(workloads.RoleAPI, 4, 4, 4, "NewReplicaSetAvailable")
	b.condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")

	// A rollout is not a change of scale, though as many pods are available.
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.LogLevel = "debug" })
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
		require.Equal(c, "debug", b.deployment(workloads.RoleAPI).Spec.Template.Spec.Containers[0].Env[0].Value)
	})
	b.report(workloads.RoleAPI, 5, 1, 4, "ReplicaSetUpdated")
	b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "")
	b.report(workloads.RoleAPI, 4, 4, 3, "ReplicaSetUpdated")
	b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "has 3 of 4 pods ready")
	b.untilReady()
}

// report plays the Deployment controller in the middle of its work.
func (b *bundle) report(role workloads.Role, all, updated, available int32, progress string) {
	b.t.Helper()
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
		for _, d := range b.deployments() {
			d.Status = appsv1.DeploymentStatus{
				ObservedGeneration: d.Generation, Replicas: *d.Spec.Replicas, UpdatedReplicas: *d.Spec.Replicas,
				ReadyReplicas: *d.Spec.Replicas, AvailableReplicas: *d.Spec.Replicas,
			}
			if d.Name == stackName+"-"+string(role) {
				d.Status.Replicas, d.Status.UpdatedReplicas, d.Status.ReadyReplicas, d.Status.AvailableReplicas = all, updated, available, available
				d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: progress}}
			}
			if d.Status.UpdatedReplicas == d.Status.Replicas && d.Status.AvailableReplicas > 0 {
				b.served.add(&d)
			}
			require.NoError(c, b.client.Status().Update(b.t.Context(), &d))
		}
	})
}

func TestAutoscalersStatusIsNoNews(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp(autoscaled(1, 8))
	for range 3 {
		b.touch()
	}
	before := len(b.writes.in(b.namespace))
	hpa, err := b.autoscaler(workloads.RoleAPI)
	require.NoError(t, err)
	for i := range int32(3) {
		hpa.Status = autoscalingv2.HorizontalPodAutoscalerStatus{CurrentReplicas: i, DesiredReplicas: 1, CurrentMetrics: []autoscalingv2.MetricStatus{}}
		require.NoError(t, b.client.Status().Update(t.Context(), hpa))
		b.touch()
	}
	require.Empty(t, b.writes.in(b.namespace)[before:])

	// What a person edits is put right, and what the spec has no word for stays.
	hpa, err = b.autoscaler(workloads.RoleAPI)
	require.NoError(t, err)
	hpa.Spec.MaxReplicas = 100
	hpa.Annotations = map[string]string{"mine": "true"}
	require.NoError(t, b.client.Update(t.Context(), hpa))
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
		hpa, err := b.autoscaler(workloads.RoleAPI)
		require.NoError(c, err)
		require.Equal(c, int32(8), hpa.Spec.MaxReplicas)
		require.Equal(c, "true", hpa.Annotations["mine"])
	})
	require.NoError(t, b.client.Delete(t.Context(), hpa))
	b.hasAutoscaler(workloads.RoleAPI, true)
}

func TestAutoscalerThatTheAPIServerRefuses(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp(autoscaled(1, 8))
	b.update(func(s *v1alpha1.AtlasStackSpec) {
		s.API.Autoscaling.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: ptr.To(int32(99999))}}
	})
	stack := b.condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonRefused, "spec.api.autoscaling")
	require.Equal(t, status.FailedStatus, b.kstatusOf(stack))
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.API.Autoscaling.Behavior = nil })
	b.untilReady()
}
