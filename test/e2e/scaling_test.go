package e2e

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// scale asks for more pods of the API, then for less again.
func (l *lifecycle) scale(t *testing.T) {
	for _, replicas := range []int32{3, 2} {
		l.change(t, func(s *platformv1alpha1.AtlasStackSpec) { s.API.Replicas = &replicas })
		deployment := &appsv1.Deployment{}
		require.NoError(t, l.cluster.Get(t.Context(), l.name("api"), deployment))
		require.Equal(t, replicas, deployment.Status.ReadyReplicas)
	}
	eventually(t, readyWithin, "two pods are left", func(context.Context) error {
		if n := len(l.pods(t, "api")); n != 2 {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
}

// evict takes one pod of the API away, as the drain of a node does. The budget does not let a second one go with it.
func (l *lifecycle) evict(t *testing.T) {
	pods := &corev1.PodList{}
	require.NoError(t, l.cluster.List(t.Context(), pods, ctrlclient.InNamespace(l.key.Namespace), ctrlclient.MatchingLabels{"app.kubernetes.io/component": "api"}))
	require.Len(t, pods.Items, 2)
	eviction := func(pod *corev1.Pod) error {
		return l.cluster.SubResource("eviction").Create(t.Context(), pod, &policyv1.Eviction{})
	}
	eventually(t, time.Minute, "the budget lets one pod go", func(context.Context) error { return eviction(&pods.Items[0]) })
	err := eviction(&pods.Items[1])
	require.True(t, apierrors.IsTooManyRequests(err), "%v", err)
	require.ErrorContains(t, err, "disruption budget")
	l.awaitGone(t, map[types.UID]string{pods.Items[0].UID: pods.Items[0].Name})
	l.await(t)
}

// restartOperator replaces the operator's pod. Nothing of the stack notices.
func (l *lifecycle) restartOperator(t *testing.T) {
	operator := &appsv1.Deployment{}
	name := ctrlclient.ObjectKey{Namespace: "atlas-system", Name: "atlas-operator"}
	require.NoError(t, l.cluster.Get(t.Context(), name, operator))
	before := l.pods(t, roles...)
	base := operator.DeepCopy()
	if operator.Spec.Template.Annotations == nil {
		operator.Spec.Template.Annotations = map[string]string{}
	}
	operator.Spec.Template.Annotations["kubectl.kubernetes.io/restartedAt"] = time.Now().Format(time.RFC3339)
	require.NoError(t, l.cluster.Patch(t.Context(), operator, ctrlclient.MergeFrom(base)))
	out, err := exec.CommandContext(t.Context(), kubectl(t), "--kubeconfig", testenv.Require(t, testenv.Kubeconfig), "--namespace", name.Namespace,
		"rollout", "status", "deployment/"+name.Name, "--timeout="+readyWithin.String()).CombinedOutput()
	require.NoError(t, err, string(out))

	l.reconcile(t)
	require.Equal(t, before, l.pods(t, roles...), "the restart rolled pods")
}

// reconcile has the operator look at the stack, its topic and its index now, and find all of it ready.
func (l *lifecycle) reconcile(t *testing.T) {
	t.Helper()
	asked, stack := time.Now().Format(time.RFC3339Nano), l.stackNow(t)
	original := stack.DeepCopy()
	metav1.SetMetaDataAnnotation(&stack.ObjectMeta, platformv1alpha1.ReconcileRequestAnnotation, asked)
	require.NoError(t, l.cluster.Patch(t.Context(), stack, ctrlclient.MergeFrom(original)))
	eventually(t, readyWithin, "the operator looks at the stack", func(ctx context.Context) error {
		if got := l.stackNow(t).Status.LastHandledReconcileAt; got != asked {
			return fmt.Errorf("it looked last at %s", got)
		}
		return stackReady(ctx, l.env, l.key)
	})
}

// autoscale lets a HorizontalPodAutoscaler follow real CPU figures up and down.
func (l *lifecycle) autoscale(t *testing.T) {
	l.change(t, func(s *platformv1alpha1.AtlasStackSpec) {
		s.API.Replicas = nil
		s.API.Autoscaling = &platformv1alpha1.AutoscalingSpec{
			MinReplicas: 1, MaxReplicas: 3, TargetCPUUtilizationPercentage: new(int32(60)),
			Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: new(int32(0))}},
		}
	})
	scaled := func(to int32) func(context.Context) error {
		return func(ctx context.Context) error {
			hpa, deployment := &autoscalingv2.HorizontalPodAutoscaler{}, &appsv1.Deployment{}
			if err := errors.Join(l.cluster.Get(ctx, l.name("api"), hpa), l.cluster.Get(ctx, l.name("api"), deployment)); err != nil {
				return err
			}
			if *deployment.Spec.Replicas != to || deployment.Status.ReadyReplicas != to || deployment.Status.Replicas != to {
				return fmt.Errorf("%d of %d pods are ready; the autoscaler says %+v", deployment.Status.ReadyReplicas, *deployment.Spec.Replicas, hpa.Status)
			}
			return nil
		}
	}
	end := l.traffic.burden(t, 6)
	eventually(t, readyWithin, "three pods carry the load", scaled(3))
	l.await(t)
	end()
	l.traffic.slow(10)
	eventually(t, readyWithin, "one pod is left when the load is gone", scaled(1))
	l.await(t)
}

// hibernate leaves no pod, and all of the data.
func (l *lifecycle) hibernate(t *testing.T) {
	l.traffic.end()
	l.traffic.check(t, "autoscale")
	l.change(t, func(s *platformv1alpha1.AtlasStackSpec) { s.Hibernate = true })
	eventually(t, readyWithin, "no pod is left", func(context.Context) error {
		if left := l.pods(t, roles...); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
	require.Contains(t, topics(t), l.stack.Spec.Kafka.Topic.Name)
	require.NotEmpty(t, l.indices(t))
}

func (l *lifecycle) wake(t *testing.T) {
	l.change(t, func(s *platformv1alpha1.AtlasStackSpec) { s.Hibernate = false })
	l.awaitAnswer(t, l.traffic.url)
	l.findKept(t)
}
