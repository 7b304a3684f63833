package atlasjob

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
)

// kstatusOf is what kubectl wait, Helm and GitOps tools make of an AtlasJob.
func kstatusOf(t require.TestingT, job *platformv1alpha1.AtlasJob) status.Status {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(job)
	require.NoError(t, err)
	result, err := status.Compute(&unstructured.Unstructured{Object: object})
	require.NoError(t, err)
	return result.Status
}

// TestWhatMayBeChangedOfAFinishedJobIsObserved: else every tool that goes by kstatus waits for it for ever.
func TestWhatMayBeChangedOfAFinishedJobIsObserved(t *testing.T) {
	t.Parallel()
	for state, kstatus := range map[string]status.Status{"SUCCEEDED": status.CurrentStatus, "FAILED": status.FailedStatus} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			job := b.submittedJob()
			b.api.set(map[string]any{"state": state})
			job, _, err := b.reconcile(job)
			require.NoError(t, err)
			require.Equal(t, kstatus, kstatusOf(t, job))
			before := job.Status.DeepCopy()

			job.Spec.Suspend, job.Spec.TTLSecondsAfterFinished = true, new(int32(3600))
			require.NoError(t, b.client.Update(t.Context(), job))
			b.recorded()
			job, _, err = b.reconcile(job)
			require.NoError(t, err)
			require.Equal(t, kstatus, kstatusOf(t, job))
			require.Equal(t, before.Phase, job.Status.Phase)
			require.Equal(t, before.CompletionTime, job.Status.CompletionTime)
			for _, condition := range job.Status.Conditions {
				require.Equal(t, job.Generation, condition.ObservedGeneration, condition.Type)
			}
			require.Empty(t, b.recorded(), "it is no transition")
			version := job.ResourceVersion
			job, _, err = b.reconcile(job)
			require.NoError(t, err)
			require.Equal(t, version, job.ResourceVersion)
		})
	}
}

// TestWaitingForARunningJobToStopWritesNothing: a status that is the same is not written again, whatever its clock says.
func TestWaitingForARunningJobToStopWritesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := b.submittedJob()
	b.api.set(map[string]any{"state": "RUNNING"})
	b.deleted(job)
	job, _, err := b.reconcile(job)
	require.NoError(t, err)
	// An hour ago, as if it had been written then: what is written anew has the time of now.
	for i := range job.Status.Conditions {
		job.Status.Conditions[i].LastTransitionTime.Time = job.Status.Conditions[i].LastTransitionTime.Add(-time.Hour)
	}
	require.NoError(t, b.client.Status().Update(t.Context(), job))
	version := job.ResourceVersion
	job, _, err = b.reconcile(job)
	require.NoError(t, err)
	require.Equal(t, version, job.ResourceVersion)
}

// TestAJobOfAnEarlierReleaseIsHeldToo: that one submitted without a finalizer.
func TestAJobOfAnEarlierReleaseIsHeldToo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := b.submittedJob()
	job.Finalizers = nil
	require.NoError(t, b.client.Update(t.Context(), job))
	job, _, err := b.reconcile(job)
	require.NoError(t, err)
	require.Equal(t, []string{finalizer}, job.Finalizers)
	b.deleted(job)
	gone, _, err := b.reconcile(job)
	require.NoError(t, err)
	require.Nil(t, gone)
	require.Equal(t, "CANCELLED", b.api.jobs[string(job.UID)]["state"])
}

// TestBeingAskedToStopIsToldOnce: a job may be claimed or paused before it stops.
func TestBeingAskedToStopIsToldOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := b.submittedJob()
	b.deleted(job)
	b.recorded()
	b.api.answerWith(hangUp)
	_, _, err := b.reconcile(job)
	require.Error(t, err)
	b.api.answerWith(nil)
	b.api.set(map[string]any{"state": "RUNNING"})
	job, _, err = b.reconcile(job)
	require.NoError(t, err)
	require.Equal(t, platformv1alpha1.AtlasJobRunning, job.Status.Phase)
	require.Len(t, b.recorded(), 1)
}

// TestAnEventHasTheReasonOfItsPhase: also where the condition says that the job can't be paused just now.
func TestAnEventHasTheReasonOfItsPhase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := b.submittedJob()
	job.Spec.Suspend = true
	require.NoError(t, b.client.Update(t.Context(), job))
	b.recorded()
	running := b.api.submit(string(job.UID))
	running["state"] = "RUNNING"
	b.api.answerWith(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			hangUp(w, r)
		}
		writeJSON(w, http.StatusOK, running)
	})
	job, _, err := b.reconcile(job)
	require.Error(t, err)
	requireCondition(t, job, condReady, metav1.ConditionUnknown, platformv1alpha1.ReasonUnreachable, "tried again")
	require.Regexp(t, "^Normal Running ", strings.Join(b.recorded(), "\n"))
}

// TestASuspendedJobThatMayAppearIsLookedFor: nothing else wakes the operator when a request arrives after its sender gave up.
func TestASuspendedJobThatMayAppearIsLookedFor(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := newJob(b.namespace)
	b.create(job)
	b.api.answerWith(hangUp)
	job, _, err := b.reconcile(job)
	require.Error(t, err)
	job.Spec.Suspend = true
	require.NoError(t, b.client.Update(t.Context(), job))
	b.api.answerWith(nil)
	job, result, err := b.reconcile(job)
	require.NoError(t, err)
	require.Equal(t, platformv1alpha1.AtlasJobSuspended, job.Status.Phase)
	require.Positive(t, result.RequeueAfter)
	late := b.api.submit(string(job.UID))
	job, _, err = b.reconcile(job)
	require.NoError(t, err)
	require.Equal(t, late["id"], job.Status.JobID)
	require.Equal(t, true, late["paused"])
}

// TestAStaleCacheSubmitsNothingForAJobThatWasCreatedAgain: the new one has the name, the generation and as little status as the one that is gone.
func TestAStaleCacheSubmitsNothingForAJobThatWasCreatedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := newJob(b.namespace)
	b.create(job)
	b.api.answerWith(hangUp)
	_, _, err := b.reconcile(job)
	require.Error(t, err)
	b.api.answerWith(nil)
	stale := b.read(job)
	b.deleted(job)
	b.now = b.now.Add(submitGrace)
	gone, _, err := b.reconcile(job)
	require.NoError(t, err)
	require.Nil(t, gone)
	b.create(newJob(b.namespace))
	b.r.Client = staleClient{Client: b.asOperator, job: stale}
	_, result, err := b.reconcile(job)
	require.NoError(t, err)
	require.Positive(t, result.RequeueAfter)
	require.Empty(t, b.api.jobs)
}
