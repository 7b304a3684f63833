package atlasjob

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
)

// submittedJob is an AtlasJob whose job waits for a worker.
func (b *testBundle) submittedJob() *platformv1alpha1.AtlasJob {
	b.t.Helper()
	job := newJob(b.namespace)
	b.create(job)
	job, _, err := b.reconcile(job)
	require.NoError(b.t, err)
	require.NotEmpty(b.t, job.Status.JobID)
	return job
}

// deleted deletes an AtlasJob and sets the clock to that moment.
func (b *testBundle) deleted(job *platformv1alpha1.AtlasJob) {
	b.t.Helper()
	for range 2 { // twice is once
		require.NoError(b.t, b.client.Delete(b.t.Context(), job))
	}
	b.now = b.read(job).DeletionTimestamp.UTC()
}

func (b *testBundle) recorded() (out []string) {
	for {
		select {
		case event := <-b.events.Events:
			out = append(out, event)
		default:
			return out
		}
	}
}

// calls are the methods and paths of what the API was asked since the last time, without the job's id.
func (b *testBundle) calls(id string) (out []string) {
	_, requests := b.api.seen()
	for _, request := range requests[b.asked:] {
		out = append(out, request.method+" "+strings.ReplaceAll(request.path, id, "ID"))
	}
	b.asked = len(requests)
	return out
}

func TestDeletionCancelsAQueuedJob(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := b.submittedJob()
	b.calls(job.Status.JobID)
	b.stack(false) // it need not be Ready for that
	b.deleted(job)
	gone, result, err := b.reconcile(job)
	require.NoError(t, err)
	require.Zero(t, result)
	require.Nil(t, gone)
	require.Equal(t, []string{"POST /v1/jobs/ID/cancel"}, b.calls(job.Status.JobID))
	require.Contains(t, b.recorded(), "Normal Cancelled The job was cancelled.")
}

func TestDeletionWaitsForARunningJobToStop(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := b.submittedJob()
	b.api.set(map[string]any{"state": "RUNNING"})
	b.deleted(job)
	for range 2 {
		var err error
		job, _, err = b.reconcile(job)
		require.NoError(t, err)
		require.NotNil(t, job)
		requireCondition(t, job, condReady, metav1.ConditionUnknown, "Cancelling", "asked to stop")
		requireCondition(t, job, condReconciling, metav1.ConditionTrue, "Cancelling", b.now.Add(cancelPatience).Format(time.RFC3339))
	}
	events := b.recorded()
	require.Equal(t, "Cancelling", strings.Fields(events[len(events)-1])[1])
	b.api.set(map[string]any{"state": "CANCELLED"})
	job, _, err := b.reconcile(job)
	require.NoError(t, err)
	require.Nil(t, job)
}

func TestDeletionKeepsTheFinalizersOfOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := newJob(b.namespace)
	job.Finalizers = []string{"example.com/first"}
	b.create(job)
	job, _, err := b.reconcile(job)
	require.NoError(t, err)
	job.Finalizers = append(job.Finalizers, "example.com/last")
	require.NoError(t, b.client.Update(t.Context(), job))
	orphan := metav1.DeletePropagationOrphan
	require.NoError(t, b.client.Delete(t.Context(), job, &client.DeleteOptions{PropagationPolicy: &orphan}))
	job, _, err = b.reconcile(job)
	require.NoError(t, err)
	require.NotContains(t, job.Finalizers, finalizer)
	require.Subset(t, job.Finalizers, []string{"example.com/first", "example.com/last"})
	require.Equal(t, platformv1alpha1.AtlasJobCancelled, job.Status.Phase, "what became of it is written down before")
	job.Finalizers = nil
	require.NoError(t, b.client.Update(t.Context(), job))
}

func TestDeletionWhileTheAPIIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := b.submittedJob()
	b.api.answerWith(hangUp)
	b.deleted(job)
	job, _, err := b.reconcile(job)
	require.Error(t, err, "tried again with backoff")
	requireCondition(t, job, condReady, metav1.ConditionUnknown, "Cancelling", "can't be asked")
	b.now = b.now.Add(cancelPatience - time.Second)
	job, _, err = b.reconcile(job)
	require.Error(t, err)
	require.NotNil(t, job)
	b.recorded()
	b.now = b.now.Add(time.Second)
	id := job.Status.JobID
	job, _, err = b.reconcile(job)
	require.NoError(t, err)
	require.Nil(t, job, "no namespace hangs for ever")
	require.Regexp(t, "^Warning Abandoned .*"+id+" may go on: .*10m0s", strings.Join(b.recorded(), "\n"))
}

func TestDeletionWithoutAStack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := b.submittedJob()
	require.NoError(t, b.client.Delete(t.Context(), newStack(b.namespace)))
	b.deleted(job)
	b.recorded()
	id := job.Status.JobID
	job, _, err := b.reconcile(job)
	require.NoError(t, err)
	require.Nil(t, job)
	require.Regexp(t, "^Warning Abandoned .*"+id+" may go on: its AtlasStack is gone", strings.Join(b.recorded(), "\n"))
}

func TestDeletionOfAJobThatTheAPIForgot(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := b.submittedJob()
	clear(b.api.jobs)
	b.deleted(job)
	job, _, err := b.reconcile(job)
	require.NoError(t, err)
	require.Nil(t, job)
}

func TestAnAPIThatCannotCancelIsNoSuccess(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := b.submittedJob()
	healthy := b.api
	b.api.answerWith(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			answerProblem(404, `{"title":"Not Found","detail":"there is no such route"}`)(w, r)
			return
		}
		for _, job := range healthy.jobs {
			writeJSON(w, 200, job)
		}
	})
	b.deleted(job)
	job, _, err := b.reconcile(job)
	require.ErrorContains(t, err, "doesn't cancel")
	require.NotNil(t, job)
}

// TestDeletionFindsAJobThatStatusDoesNotName is an operator that was killed between submitting and writing that down.
func TestDeletionFindsAJobThatStatusDoesNotName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := newJob(b.namespace)
	b.create(job)
	b.r.Client = failingStatus{b.asOperator}
	job, _, err := b.reconcile(job)
	require.Error(t, err)
	require.Empty(t, job.Status.JobID)
	require.Equal(t, []string{finalizer}, job.Finalizers)
	b.r.Client = b.asOperator
	b.calls("")
	b.deleted(job)
	gone, _, err := b.reconcile(job)
	require.NoError(t, err)
	require.Nil(t, gone)
	require.Equal(t, "CANCELLED", b.api.jobs[string(job.UID)]["state"])
	posts, _ := b.api.seen()
	require.Len(t, posts, 1, "it is not submitted to be found")
}

func TestDeletionWaitsForARequestThatMayBeOnItsWay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := newJob(b.namespace)
	b.create(job)
	b.api.answerWith(hangUp)
	_, _, err := b.reconcile(job)
	require.Error(t, err)
	b.api.answerWith(nil)
	b.deleted(job)
	waits, result, err := b.reconcile(job)
	require.NoError(t, err)
	require.NotNil(t, waits)
	require.Positive(t, result.RequeueAfter)
	requireCondition(t, waits, condReady, metav1.ConditionFalse, "Cancelling", "There is no job yet")

	late := b.api.submit(string(job.UID)) // and there it is
	gone, _, err := b.reconcile(job)
	require.NoError(t, err)
	require.Nil(t, gone)
	require.Equal(t, "CANCELLED", late["state"])

	again := newJob(b.namespace)
	b.create(again)
	b.api.answerWith(hangUp)
	_, _, err = b.reconcile(again)
	require.Error(t, err)
	b.api.answerWith(nil)
	b.deleted(again)
	b.now = b.now.Add(submitGrace)
	gone, _, err = b.reconcile(again)
	require.NoError(t, err)
	require.Nil(t, gone)
	require.Len(t, b.api.jobs, 1)
}

// TestAStaleCacheSubmitsNothingForADeletedJob shows what the cache of a new operator may show: an AtlasJob that is gone.
func TestAStaleCacheSubmitsNothingForADeletedJob(t *testing.T) {
	t.Parallel()
	for name, held := range map[string]bool{"never submitted": false, "submitted in vain": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			job := newJob(b.namespace)
			b.create(job)
			if held {
				b.api.answerWith(hangUp)
				_, _, err := b.reconcile(job)
				require.Error(t, err)
				b.api.answerWith(nil)
			}
			stale := b.read(job)
			if !held {
				require.NoError(t, b.client.Delete(t.Context(), job))
			} else {
				b.deleted(job)
				b.now = b.now.Add(submitGrace)
				_, _, err := b.reconcile(job)
				require.NoError(t, err)
			}
			require.Nil(t, b.read(job))
			b.r.Client = staleClient{Client: b.asOperator, job: stale}
			_, _, err := b.reconcile(job)
			require.NoError(t, client.IgnoreNotFound(err))
			require.Empty(t, b.api.jobs)
		})
	}
}

func TestARecreatedJobIsAnotherJob(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.submittedJob()
	b.deleted(first)
	gone, _, err := b.reconcile(first)
	require.NoError(t, err)
	require.Nil(t, gone)
	second := b.submittedJob()
	require.NotEqual(t, first.Status.JobID, second.Status.JobID)
}

func TestSuspend(t *testing.T) {
	t.Parallel()
	b := setup(t)
	suspend := func(job *platformv1alpha1.AtlasJob, suspended bool) {
		t.Helper()
		job = b.read(job)
		job.Spec.Suspend = suspended
		require.NoError(t, b.client.Update(t.Context(), job))
	}
	job := newJob(b.namespace)
	job.Spec.Suspend = true
	b.create(job)
	job, result, err := b.reconcile(job)
	require.NoError(t, err)
	require.Zero(t, result)
	require.Equal(t, platformv1alpha1.AtlasJobSuspended, job.Status.Phase)
	require.Empty(t, job.Finalizers)
	requireCondition(t, job, condReady, metav1.ConditionFalse, "Suspended", "not submitted")
	requireNoCondition(t, job, condReconciling, condStalled)
	require.Empty(t, b.calls("?"))

	suspend(job, false)
	job, _, err = b.reconcile(job)
	require.NoError(t, err)
	require.Equal(t, platformv1alpha1.AtlasJobQueued, job.Status.Phase)
	id := job.Status.JobID
	require.Equal(t, []string{"POST /v1/jobs"}, b.calls(id))

	suspend(job, true)
	job, _, err = b.reconcile(job)
	require.NoError(t, err)
	require.Equal(t, platformv1alpha1.AtlasJobSuspended, job.Status.Phase)
	require.Equal(t, []string{"GET /v1/jobs/ID", "POST /v1/jobs/ID/pause"}, b.calls(id))
	_, _, err = b.reconcile(job)
	require.NoError(t, err)
	require.Equal(t, []string{"GET /v1/jobs/ID"}, b.calls(id))

	b.api.set(map[string]any{"state": "RUNNING", "paused": false}) // somebody resumed it, and a worker has it
	job, _, err = b.reconcile(job)
	require.NoError(t, err)
	require.Equal(t, []string{"GET /v1/jobs/ID", "POST /v1/jobs/ID/pause"}, b.calls(id), "spec rules")
	require.Equal(t, platformv1alpha1.AtlasJobRunning, job.Status.Phase)
	requireCondition(t, job, condReady, metav1.ConditionFalse, "Running", "until its next checkpoint")

	b.api.set(map[string]any{"state": "QUEUED"})
	suspend(job, false)
	job, _, err = b.reconcile(job)
	require.NoError(t, err)
	require.Equal(t, []string{"GET /v1/jobs/ID", "POST /v1/jobs/ID/resume"}, b.calls(id))
	require.Equal(t, platformv1alpha1.AtlasJobQueued, job.Status.Phase)
	require.Equal(t, "Normal Suspended The job is not submitted before suspend is removed.", b.recorded()[0])
}

// TestSuspendFindsAJobThatStatusDoesNotName suspends while nobody knows that the job was submitted.
func TestSuspendFindsAJobThatStatusDoesNotName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := newJob(b.namespace)
	b.create(job)
	b.r.Client = failingStatus{b.asOperator}
	job, _, err := b.reconcile(job)
	require.Error(t, err)
	b.r.Client = b.asOperator
	job.Spec.Suspend = true
	require.NoError(t, b.client.Update(t.Context(), job))
	job, _, err = b.reconcile(job)
	require.NoError(t, err)
	require.Equal(t, platformv1alpha1.AtlasJobSuspended, job.Status.Phase)
	require.NotEmpty(t, job.Status.JobID)
	require.Equal(t, true, b.api.jobs[string(job.UID)]["paused"])
}

func TestStatusOfTheReleaseBeforeIsRead(t *testing.T) {
	t.Parallel()
	var status platformv1alpha1.AtlasJobError
	require.NoError(t, status.UnmarshalJSON([]byte(`"away"`)))
	require.Equal(t, platformv1alpha1.AtlasJobError{Message: "away"}, status)
	require.NoError(t, status.UnmarshalJSON([]byte(`{"code":"c","message":"m"}`)))
	require.Equal(t, platformv1alpha1.AtlasJobError{Code: "c", Message: "m"}, status)
}
