package atlasjob

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	atlas "github.com/atlas-platform/atlas/client"
	"github.com/atlas-platform/atlas/controllers/apply"
)

// Reasons that only this controller gives.
const (
	reasonStackNotFound = "StackNotFound"
	reasonStackNotReady = "StackNotReady"
	reasonUnauthorized  = "Unauthorized"
	reasonJobNotFound   = "JobNotFound"
	reasonQueued        = "Queued"
	reasonRunning       = "Running"
	reasonSuspended     = "Suspended"
	reasonCancelling    = "Cancelling"
	reasonAbandoned     = "Abandoned"
	reasonSucceeded     = "Succeeded"
	reasonCancelled     = "Cancelled"
)

// codeRefused is the code of an error that the API answered to the submission.
const codeRefused = "refused"

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

// summary is without a total while none is known.
func summary(p atlas.JobProgress) string {
	if p.Total == 0 && p.Done > 0 {
		return strconv.FormatInt(p.Done, 10)
	}
	return fmt.Sprintf("%d/%d", p.Done, p.Total)
}

// mirror copies what the API said into status.
func mirror(job *platformv1alpha1.AtlasJob, remote *atlas.Job, now time.Time) {
	status := &job.Status
	status.JobID = remote.ID.String()
	status.Attempts = int32(min(remote.Attempts, math.MaxInt32)) //nolint:gosec // bounded
	status.Error = nil
	if remote.Error != nil {
		status.Error = &platformv1alpha1.AtlasJobError{Code: shorten(remote.Error.Code), Message: shorten(remote.Error.Message)}
	}
	status.Progress = &platformv1alpha1.AtlasJobProgress{
		Done:    remote.Progress.Done,
		Total:   remote.Progress.Total,
		Summary: summary(remote.Progress),
	}
	if remote.Progress.Message != nil {
		status.Progress.Message = shorten(*remote.Progress.Message)
	}
	status.Result = inOneLine(remote.Result) // a check that failed tells what it found
	status.SubmissionTime = timeOr(&remote.CreatedAt, now)
	status.StartTime = nil
	if remote.StartedAt != nil {
		status.StartTime = timeOr(remote.StartedAt, now)
	}

	switch remote.State {
	case atlas.Queued:
		if remote.Paused {
			suspended(job, "The job waits until suspend is removed.")
			return
		}
		status.Phase = platformv1alpha1.AtlasJobQueued
		reconciling(job, metav1.ConditionFalse, reasonQueued, "The job waits for a worker.")
	case atlas.Running:
		status.Phase = platformv1alpha1.AtlasJobRunning
		message := "A worker runs the job"
		if remote.Paused {
			message = "A worker runs the job until its next checkpoint"
		}
		if doing := remote.Progress.Message; doing != nil && *doing != "" {
			message += ": " + *doing
		}
		message += "."
		reconciling(job, metav1.ConditionFalse, reasonRunning, message)
	case atlas.Succeeded:
		status.Phase = platformv1alpha1.AtlasJobSucceeded
		status.CompletionTime = timeOr(remote.FinishedAt, now)
		meta.RemoveStatusCondition(&status.Conditions, platformv1alpha1.ConditionReconciling)
		meta.RemoveStatusCondition(&status.Conditions, platformv1alpha1.ConditionStalled)
		set(job, platformv1alpha1.ConditionReady, metav1.ConditionTrue, reasonSucceeded, "The job succeeded.")
		set(job, platformv1alpha1.ConditionComplete, metav1.ConditionTrue, reasonSucceeded, "The job succeeded.")
	case atlas.Failed:
		message := "The job failed for good."
		if status.Error != nil {
			message = "The job failed for good: " + status.Error.Message
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
	job.Status.Error = &platformv1alpha1.AtlasJobError{Code: codeRefused, Message: shorten(refused.Error())}
	fail(job, platformv1alpha1.AtlasJobFailed, platformv1alpha1.ReasonRefused,
		"The API refused the job; delete this AtlasJob and create a corrected one. It says: "+job.Status.Error.Message, timeOr(nil, now))
}

// suspended says that the job doesn't move before spec.suspend is removed. It is as the spec asks, so it is not Reconciling; and it is not done.
func suspended(job *platformv1alpha1.AtlasJob, message string) {
	job.Status.Phase = platformv1alpha1.AtlasJobSuspended
	meta.RemoveStatusCondition(&job.Status.Conditions, platformv1alpha1.ConditionReconciling)
	meta.RemoveStatusCondition(&job.Status.Conditions, platformv1alpha1.ConditionStalled)
	set(job, platformv1alpha1.ConditionReady, metav1.ConditionFalse, reasonSuspended, message)
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
	before = &platformv1alpha1.AtlasJob{ObjectMeta: job.ObjectMeta, Spec: job.Spec, Status: before.Status} // the finalizer may be newer
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	err := r.Status().Patch(ctx, job, patch)
	if apierrors.IsForbidden(err) && !job.DeletionTimestamp.IsZero() {
		return nil // in a namespace that is being deleted the operator's Role may be gone; that keeps nothing
	}
	if err != nil {
		return fmt.Errorf("patch the status: %w", err)
	}
	return nil
}

// recordTransition writes an event when the job got into another phase, or begins to be cancelled.
func (r *Reconciler) recordTransition(before, job *platformv1alpha1.AtlasJob) {
	reason, phase := conditionReason(job), job.Status.Phase
	switch {
	case reason == reasonCancelling:
		if conditionReason(before) == reasonCancelling {
			return // whatever the job does until it stops
		}
	case phase == before.Status.Phase:
		return
	case !finished(job):
		reason = string(phase) // also where the condition tells of a call that failed
	}
	if kind, told := eventType(reason, job); told {
		r.Recorder.Eventf(job, nil, kind, reason, "RunJob", "%s", apply.Message(conditionMessage(job)))
	}
}

// eventType is the type of the Kubernetes Event with a reason; not every reason has one.
func eventType(reason string, job *platformv1alpha1.AtlasJob) (kind string, told bool) {
	switch reason {
	case reasonQueued, reasonRunning, reasonSuspended, reasonCancelling, reasonSucceeded:
		return corev1.EventTypeNormal, true
	case platformv1alpha1.ReasonFailed, platformv1alpha1.ReasonRefused, reasonAbandoned:
		return corev1.EventTypeWarning, true
	case reasonCancelled:
		if job.DeletionTimestamp.IsZero() { // somebody else cancelled it
			return corev1.EventTypeWarning, true
		}
		return corev1.EventTypeNormal, true
	default:
		return "", false
	}
}

// conditionReason and conditionMessage are those of Ready, which says the most.
func conditionReason(job *platformv1alpha1.AtlasJob) string {
	if condition := meta.FindStatusCondition(job.Status.Conditions, platformv1alpha1.ConditionReady); condition != nil {
		return condition.Reason
	}
	return ""
}

func conditionMessage(job *platformv1alpha1.AtlasJob) string {
	if condition := meta.FindStatusCondition(job.Status.Conditions, platformv1alpha1.ConditionReady); condition != nil {
		return condition.Message
	}
	return ""
}

// final says that a job is done for good.
func final(remote *atlas.Job) bool {
	return remote.State == atlas.Succeeded || remote.State == atlas.Failed || remote.State == atlas.Cancelled
}

// inOneLine is a job's result for people: failed=0, items=12.
func inOneLine(result *json.RawMessage) string {
	if result == nil {
		return ""
	}
	var value any
	decoder := json.NewDecoder(bytes.NewReader(*result))
	decoder.UseNumber()
	if decoder.Decode(&value) != nil || value == nil {
		return ""
	}
	fields, ok := value.(map[string]any)
	if !ok {
		return shorten(plainJSON(value))
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		out = append(out, name+"="+plainJSON(fields[name]))
	}
	return shorten(strings.Join(out, ", "))
}

// plainJSON is JSON for people: not as HTML wants it.
func plainJSON(value any) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value) // it was decoded just now
	return strings.TrimSpace(out.String())
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
