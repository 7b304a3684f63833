package atlasstack_test

import (
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// TestAnIndexOfAnotherDefinitionServesUntilItIsRebuilt, by somebody or by the operator itself.
func TestAnIndexOfAnotherDefinitionServesUntilItIsRebuilt(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	const kind = v1alpha1.ConditionSearchIndexReady
	b.elastic.setFormer(true)
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.LogLevel = "debug" })
	b.condition(kind, metav1.ConditionFalse, v1alpha1.ReasonReindexRequired, "Create an AtlasJob with type: reindex")
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) { // it holds nothing up
		require.Equal(c, "debug", b.deployment(workloads.RoleAPI).Spec.Template.Spec.Containers[0].Env[0].Value)
	})
	b.rollOut()
	stack := b.condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, kind+": ")
	require.Equal(t, status.CurrentStatus, b.kstatusOf(stack))
	require.Empty(t, b.jobs())

	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Elasticsearch.ReindexPolicy = v1alpha1.ReindexAutomatic })
	b.condition(kind, metav1.ConditionFalse, v1alpha1.ReasonReindexing, "AtlasJob demo-reindex-")
	job := b.jobs()[0]
	require.Equal(t, v1alpha1.AtlasJobTypeReindex, job.Spec.Type)
	require.Equal(t, "demo", job.Spec.StackRef.Name)
	require.Equal(t, "", job.Spec.Reindex.CollectionID)
	require.True(t, metav1.IsControlledBy(&job, stack))
	require.False(t, *job.OwnerReferences[0].BlockOwnerDeletion, "it may need an API that goes with the stack")

	job.Status.Phase, job.Status.Error = v1alpha1.AtlasJobFailed, &v1alpha1.AtlasJobError{Message: "the disk is full"}
	require.NoError(t, b.client.Status().Update(t.Context(), &job))
	b.condition(kind, metav1.ConditionFalse, v1alpha1.ReasonReindexFailed, ": the disk is full; search works")
	require.Len(t, b.jobs(), 1)
	job.Status.Phase, job.Status.Error = v1alpha1.AtlasJobCancelled, nil
	require.NoError(t, b.client.Status().Update(t.Context(), &job))
	b.condition(kind, metav1.ConditionFalse, v1alpha1.ReasonReindexFailed, ": it was cancelled; search works")
	require.NoError(t, b.client.Delete(t.Context(), &job))
	b.condition(kind, metav1.ConditionFalse, v1alpha1.ReasonReindexing, job.Name)
	require.Len(t, b.jobs(), 1)

	// An AtlasJob of somebody else's ends: the index is looked at.
	b.elastic.setFormer(false)
	other := &v1alpha1.AtlasJob{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "by-hand"}}
	other.Spec.StackRef.Name, other.Spec.Type, other.Spec.Reindex = "demo", v1alpha1.AtlasJobTypeReindex, &v1alpha1.ReindexJob{}
	require.NoError(t, b.client.Create(t.Context(), other))
	other.Status.Phase = v1alpha1.AtlasJobSucceeded
	require.NoError(t, b.client.Status().Update(t.Context(), other))
	b.condition(kind, metav1.ConditionTrue, v1alpha1.ReasonReady, "alias atlas-items leads to")
}

func (b *bundle) jobs() []v1alpha1.AtlasJob {
	list := &v1alpha1.AtlasJobList{}
	require.NoError(b.t, b.client.List(b.t.Context(), list, client.InNamespace(b.namespace)))
	return list.Items
}
