package atlasjob

import (
	"context"
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	atlas "github.com/atlas-platform/atlas/client"
)

// Reasons that only this controller gives.
const (
	reasonStackNotFound = "StackNotFound"
	reasonStackNotReady = "StackNotReady"
	reasonUnauthorized  = "Unauthorized"
	reasonJobNotFound   = "JobNotFound"
	reasonQueued        = "Queued"
	reasonRunning       = "Running"
	reasonSucceeded     = "Succeeded"
	reasonCancelled     = "Cancelled"
)

// maxMessage bounds what is copied from an answer into status and events.
const maxMessage = 1000

// finished says that status holds the job's outcome.
func finished(job *platformv1alpha1.AtlasJob) bool {
	switch job.Status.Phase {
	case platformv1alpha1.AtlasJobSucceeded, platformv1alpha1.AtlasJobFailed, platformv1alpha1.AtlasJobCancelled:
		return true
	default:
		return false
	}
}

// mirror copies what the API said into status.
func mirror(job *platformv1alpha1.AtlasJob, remote *atlas.Job, now time.Time) {
	status := &job.Status
	status.JobID = remote.ID.String()
	status.Attempts = int32(min(remote.Attempts, math.MaxInt32)) //nolint:gosec // bounded
	status.Error = ""
	if remote.Error != nil {
		status.Error = shorten(remote.Error.Message)
	}
	status.Progress = &platformv1alpha1.AtlasJobProgress{
		Done:    remote.Progress.Done,
		Total:   remote.Progress.Total,
		Summary: fmt.Sprintf("%d/%d", remote.Progress.Done, remote.Progress.Total),
	}
	if status.StartTime == nil {
		status.StartTime = timeOr(&remote.CreatedAt, now)
	}

	switch remote.State {
	case atlas.Queued:
		status.Phase = platformv1alpha1.AtlasJobQueued
		reconciling(job, metav1.ConditionFalse, reasonQueued, "The job waits for a worker.")
	case atlas.Running:
		status.Phase = platformv1alpha1.AtlasJobRunning
		reconciling(job, metav1.ConditionFalse, reasonRunning, "A worker runs the job.")
	case atlas.Succeeded:
		status.Phase = platformv1alpha1.AtlasJobSucceeded
		status.CompletionTime = timeOr(remote.FinishedAt, now)
		meta.RemoveStatusCondition(&status.Conditions, platformv1alpha1.ConditionReconciling)
		meta.RemoveStatusCondition(&status.Conditions, platformv1alpha1.ConditionStalled)
		set(job, platformv1alpha1.ConditionReady, metav1.ConditionTrue, reasonSucceeded, "The job succeeded.")
		set(job, platformv1alpha1.ConditionComplete, metav1.ConditionTrue, reasonSucceeded, "The job succeeded.")
	case atlas.Failed:
		message := "The job failed for good."
		if status.Error != "" {
			message = "The job failed for good: " + status.Error
		}
		fail(job, platformv1alpha1.AtlasJobFailed, platformv1alpha1.ReasonFailed, message, timeOr(remote.FinishedAt, now))
	case atlas.Cancelled:
		fail(job, platformv1alpha1.AtlasJobCancelled, reasonCancelled, "The job was cancelled.", timeOr(remote.FinishedAt, now))
	}
}

// waiting says what stands between the job and its next step, and that the controller tries again. Before the job was submitted it certainly isn't
// done (False); afterwards it may have gone on unseen (Unknown).
func waiting(job *platformv1alpha1.AtlasJob, reason, message string) {
	known := metav1.ConditionFalse
	if job.Status.JobID != "" {
		known = metav1.ConditionUnknown
	}
	reconciling(job, known, reason, message)
}

// refuse ends a job that the API didn't take.
func refuse(job *platformv1alpha1.AtlasJob, refused *refusedError, now time.Time) {
	job.Status.Error = shorten(refused.Error())
	fail(job, platformv1alpha1.AtlasJobFailed, platformv1alpha1.ReasonRefused,
		"The API refused the job; delete this AtlasJob and create a corrected one. It says: "+job.Status.Error, timeOr(nil, now))
}

// lost says that the API took the job once and doesn't show it any more. Its outcome is unknown, so no outcome is written down.
func lost(job *platformv1alpha1.AtlasJob, refused *refusedError) {
	message := "The API took this job and doesn't show it any more, so its outcome is unknown: delete this AtlasJob, and create another one if it shall run again. It says: " +
		shorten(refused.Error())
	meta.RemoveStatusCondition(&job.Status.Conditions, platformv1alpha1.ConditionReconciling)
	set(job, platformv1alpha1.ConditionReady, metav1.ConditionUnknown, reasonJobNotFound, message)
	set(job, platformv1alpha1.ConditionStalled, metav1.ConditionTrue, reasonJobNotFound, message)
}

func fail(job *platformv1alpha1.AtlasJob, phase platformv1alpha1.AtlasJobPhase, reason, message string, at *metav1.Time) {
	job.Status.Phase = phase
	job.Status.CompletionTime = at
	meta.RemoveStatusCondition(&job.Status.Conditions, platformv1alpha1.ConditionReconciling)
	for _, kind := range []string{platformv1alpha1.ConditionStalled, platformv1alpha1.ConditionFailed} {
		set(job, kind, metav1.ConditionTrue, reason, message)
	}
	set(job, platformv1alpha1.ConditionReady, metav1.ConditionFalse, reason, message)
}

func reconciling(job *platformv1alpha1.AtlasJob, known metav1.ConditionStatus, reason, message string) {
	meta.RemoveStatusCondition(&job.Status.Conditions, platformv1alpha1.ConditionStalled)
	set(job, platformv1alpha1.ConditionReady, known, reason, message)
	set(job, platformv1alpha1.ConditionReconciling, metav1.ConditionTrue, reason, message)
}

func set(job *platformv1alpha1.AtlasJob, kind string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&job.Status.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: shorten(message), ObservedGeneration: job.Generation,
	})
}

// patchStatus writes status if it changed. The resource version goes along: what a stale cache led to must not overwrite a later state.
func (r *Reconciler) patchStatus(ctx context.Context, before, job *platformv1alpha1.AtlasJob) error {
	if equality.Semantic.DeepEqual(before.Status, job.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Status().Patch(ctx, job, patch); err != nil {
		return fmt.Errorf("patch the status: %w", err)
	}
	return nil
}

// recordTransition writes an event when the job got into another phase.
func (r *Reconciler) recordTransition(before, job *platformv1alpha1.AtlasJob) {
	phase := job.Status.Phase
	if phase == before.Status.Phase || phase == platformv1alpha1.AtlasJobPending {
		return
	}
	kind := corev1.EventTypeNormal
	if phase == platformv1alpha1.AtlasJobFailed || phase == platformv1alpha1.AtlasJobCancelled {
		kind = corev1.EventTypeWarning
	}
	condition := meta.FindStatusCondition(job.Status.Conditions, platformv1alpha1.ConditionReady)
	r.Recorder.Eventf(job, nil, kind, condition.Reason, "RunJob", "%s", shorten(condition.Message))
}

// timeOr is at, or now when the API didn't say.
func timeOr(at *time.Time, now time.Time) *metav1.Time {
	if at == nil || at.IsZero() {
		at = &now
	}
	return &metav1.Time{Time: at.Truncate(time.Second)}
}

// shorten cuts a text between two characters.
func shorten(text string) string {
	runes := []rune(text)
	if len(runes) <= maxMessage {
		return text
	}
	return string(runes[:maxMessage-1]) + "…"
}
