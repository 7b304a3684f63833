package atlasstack_test

import (
	"errors"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
	"github.com/atlas-platform/atlas/internal/exitcode"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// TestDowngradeIsRefused: the image is older than the database. Neither the old pods nor the database change, and either way out works.
func TestDowngradeIsRefused(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	before := b.deployment(workloads.RoleAPI)
	const older = "registry.example.com/atlas:0.9.0"
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Image = older })
	rule := b.migration().Spec.PodFailurePolicy.Rules[0]
	require.Equal(t, batchv1.PodFailurePolicyActionFailJob, rule.Action)
	require.Equal(t, []int32{exitcode.SchemaAhead}, rule.OnExitCodes.Values)
	b.refuseMigration()

	const kind = v1alpha1.ConditionMigrationsApplied
	b.condition(kind, metav1.ConditionFalse, v1alpha1.ReasonDowngradeRefused, "set image to "+image+", which migrated it")
	b.condition(kind, metav1.ConditionFalse, v1alpha1.ReasonDowngradeRefused, "(pod migrate-")
	stack := b.condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonDowngradeRefused, older+" is older than the schema")
	require.Equal(t, status.FailedStatus, b.kstatusOf(stack))
	require.Equal(t, "1.0.0", stack.Status.Version)
	require.Equal(t, before.ResourceVersion, b.deployment(workloads.RoleAPI).ResourceVersion)

	// A backup was restored.
	b.annotate(v1alpha1.ReconcileRequestAnnotation, "now")
	b.condition(kind, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "")
	b.finishMigration(true)
	require.Equal(t, "0.9.0", b.untilReady().Status.Version)

	// Or the image comes back.
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Image = "registry.example.com/atlas:0.8.0" })
	b.refuseMigration()
	b.condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonDowngradeRefused, "set image to "+older)
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Image = older })
	b.finishMigration(true)
	require.Equal(t, status.CurrentStatus, b.kstatusOf(b.untilReady()))
}

// refuseMigration plays the Job controller for a pod that ended with exitcode.SchemaAhead.
func (b *bundle) refuseMigration() {
	b.t.Helper()
	job := b.migration()
	b.addPod(workloads.RoleMigrate, map[string]string{batchv1.ControllerUidLabel: string(job.UID)}, corev1.ContainerStatus{
		State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: exitcode.SchemaAhead, Reason: "Error", Message: "error: the database has schema version 25, and this release knows 19 at most",
		}},
	})
	endRefused(job)
	require.NoError(b.t, b.client.Status().Update(b.t.Context(), job))
}

// endRefused ends a Job as the Job controller does when its pod ended with exitcode.SchemaAhead.
func endRefused(job *batchv1.Job) {
	now := metav1.Now()
	job.Status.StartTime, job.Status.Failed = &now, 1
	for _, kind := range []batchv1.JobConditionType{batchv1.JobFailureTarget, batchv1.JobFailed} {
		job.Status.Conditions = append(job.Status.Conditions, batchv1.JobCondition{
			Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now, LastProbeTime: now, Reason: batchv1.JobReasonPodFailurePolicy,
			Message: "Container atlas for pod failed with exit code 10 matching FailJob rule at index 0",
		})
	}
}

// TestARollBackAsksTheDatabase, because the newer release may have migrated it, whatever else goes wrong.
func TestARollBackAsksTheDatabase(t *testing.T) {
	t.Parallel()
	back := func(w *world) error {
		return w.update(func(s *v1alpha1.AtlasStackSpec) { s.Image, s.Hibernate = image, false })
	}
	for name, rollBack := range map[string]func(*testing.T, *world){
		"nothing": func(t *testing.T, w *world) { require.NoError(t, back(w)) },
		"the status is not written": func(t *testing.T, w *world) {
			require.NoError(t, back(w))
			w.start(fault{mute: true})
			require.ErrorIs(t, w.turn(), errFault)
			w.start(fault{})
		},
		"the Job was deleted meanwhile": func(t *testing.T, w *world) {
			require.NoError(t, w.update(func(s *v1alpha1.AtlasStackSpec) { s.Hibernate = true }))
			require.NoError(t, w.turn())
			require.NoError(t, w.client.Delete(t.Context(), w.migration(t), client.PropagationPolicy(metav1.DeletePropagationBackground)))
			require.NoError(t, back(w))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testenv.Require(t, testenv.EnvtestAssets)
			w, err := newWorld(t.Context(), theSuite)
			require.NoError(t, err)
			require.NoError(t, w.create())
			require.NoError(t, w.settle())
			first := w.migration(t)
			require.NoError(t, w.upgrade())
			require.NoError(t, errors.Join(w.turn(), w.turn()))
			require.NotEqual(t, first.Name, w.migration(t).Name)

			rollBack(t, w)
			require.NoError(t, errors.Join(w.turn(), w.turn()))
			job := w.migration(t)
			require.Equal(t, first.Name, job.Name)
			require.NotEqual(t, first.UID, job.UID)
			endRefused(job)
			require.NoError(t, w.client.Status().Update(t.Context(), job))
			require.NoError(t, w.turn())
			stack, err := w.stack()
			require.NoError(t, err)
			stalled := meta.FindStatusCondition(stack.Status.Conditions, v1alpha1.ConditionStalled)
			require.NotNil(t, stalled, "%v", stack.Status.Conditions)
			require.Equal(t, v1alpha1.ReasonDowngradeRefused, stalled.Reason)
		})
	}
}

// migration is the only migration Job.
func (w *world) migration(t *testing.T) *batchv1.Job {
	t.Helper()
	jobs := &batchv1.JobList{}
	require.NoError(t, w.client.List(t.Context(), jobs, client.InNamespace(w.namespace)))
	require.Len(t, jobs.Items, 1)
	return &jobs.Items[0]
}
