package atlasstack_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// TestPodsThatCanNotBeMade are no progress: the condition names the field, until it is corrected.
func TestPodsThatCanNotBeMade(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.API.PriorityClassName = "nope" })
	b.eventuallyPriority("nope")
	d := b.deployment(workloads.RoleAPI)
	d.Status.ObservedGeneration, d.Status.UpdatedReplicas = d.Generation, 0
	d.Status.Conditions = []appsv1.DeploymentCondition{{
		Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate",
		Message: `pods "demo-api-5c-" is forbidden: no PriorityClass with name nope was found`,
	}}
	require.NoError(t, b.client.Status().Update(t.Context(), d))
	b.condition(v1alpha1.ConditionWorkloadsReady, metav1.ConditionFalse, v1alpha1.ReasonRefused, "no PriorityClass with name nope was found: correct spec.api.priorityClassName")
	b.condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonRefused, "spec.api.priorityClassName")
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.API.PriorityClassName = "" })
	b.eventuallyPriority("")
	b.untilReady()
}

func (b *bundle) eventuallyPriority(name string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		return b.deployment(workloads.RoleAPI).Spec.Template.Spec.PriorityClassName == name
	}, patience, tick)
}
