package atlasschedule

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
)

// Reasons that only this controller gives, in conditions and events.
const (
	reasonScheduled       = "Scheduled"
	reasonSuspended       = "Suspended"
	reasonInvalidSchedule = "InvalidSchedule"
	reasonInvalidJob      = "InvalidJobTemplate"
	reasonJobActive       = "JobAlreadyActive"
	reasonMade            = "JobMade"
	reasonReplaced        = "JobReplaced"
	reasonMissed          = "MissedSchedule"
	reasonNameTaken       = "NameTaken"
)

func finished(job *platformv1alpha1.AtlasJob) bool {
	return succeeded(job) || job.Status.Phase == platformv1alpha1.AtlasJobFailed || job.Status.Phase == platformv1alpha1.AtlasJobCancelled
}

func succeeded(job *platformv1alpha1.AtlasJob) bool {
	return job.Status.Phase == platformv1alpha1.AtlasJobSucceeded
}

// observe says in status what jobs there are.
func observe(schedule *platformv1alpha1.AtlasSchedule, jobs []platformv1alpha1.AtlasJob) {
	schedule.Status.Active = nil
	for i := range jobs {
		switch job := &jobs[i]; {
		case !finished(job):
			schedule.Status.Active = withName(schedule.Status.Active, job.Name)
		case succeeded(job) && job.Status.CompletionTime != nil:
			last := schedule.Status.LastSuccessfulTime
			if last == nil || last.Before(job.Status.CompletionTime) {
				schedule.Status.LastSuccessfulTime = job.Status.CompletionTime.DeepCopy()
			}
		}
	}
}

// withName adds a name, in order.
func withName(names []string, name string) []string {
	place, found := slices.BinarySearch(names, name)
	if found {
		return names
	}
	return slices.Insert(names, place, name)
}

// prune deletes the oldest finished jobs that are more than are kept. It comes after status was written: their last words are in it.
func (r *Reconciler) prune(ctx context.Context, schedule *platformv1alpha1.AtlasSchedule, jobs []platformv1alpha1.AtlasJob) error {
	var done, failed []*platformv1alpha1.AtlasJob
	for i := range jobs {
		switch job := &jobs[i]; {
		case succeeded(job):
			done = append(done, job)
		case finished(job):
			failed = append(failed, job)
		}
	}
	return errors.Join(r.keep(ctx, done, schedule.Spec.SuccessfulJobsHistoryLimit, 3), r.keep(ctx, failed, schedule.Spec.FailedJobsHistoryLimit, 1))
}

func (r *Reconciler) keep(ctx context.Context, jobs []*platformv1alpha1.AtlasJob, limit *int32, otherwise int) error {
	kept := otherwise
	if limit != nil {
		kept = int(*limit)
	}
	// The names end with their ticks, which have one length until the year 2160.
	slices.SortFunc(jobs, func(a, b *platformv1alpha1.AtlasJob) int { return cmp.Compare(b.Name, a.Name) })
	var err error
	for _, job := range jobs[min(kept, len(jobs)):] {
		err = errors.Join(err, r.remove(ctx, job))
	}
	return err
}

// The conditions by kstatus: Ready with Reconciling or Stalled beside it where there is something to wait for or to mend.
func ready(schedule *platformv1alpha1.AtlasSchedule, reason, message string) {
	meta.RemoveStatusCondition(&schedule.Status.Conditions, platformv1alpha1.ConditionReconciling)
	meta.RemoveStatusCondition(&schedule.Status.Conditions, platformv1alpha1.ConditionStalled)
	set(schedule, platformv1alpha1.ConditionReady, metav1.ConditionTrue, reason, message)
}

func reconciling(schedule *platformv1alpha1.AtlasSchedule, reason, message string) {
	meta.RemoveStatusCondition(&schedule.Status.Conditions, platformv1alpha1.ConditionStalled)
	set(schedule, platformv1alpha1.ConditionReady, metav1.ConditionFalse, reason, message)
	set(schedule, platformv1alpha1.ConditionReconciling, metav1.ConditionTrue, reason, message)
}

func stalled(schedule *platformv1alpha1.AtlasSchedule, reason, message string) {
	schedule.Status.NextScheduleTime = nil
	meta.RemoveStatusCondition(&schedule.Status.Conditions, platformv1alpha1.ConditionReconciling)
	set(schedule, platformv1alpha1.ConditionReady, metav1.ConditionFalse, reason, message)
	set(schedule, platformv1alpha1.ConditionStalled, metav1.ConditionTrue, reason, message)
}

func set(schedule *platformv1alpha1.AtlasSchedule, kind string, status metav1.ConditionStatus, reason, message string) {
	apply.SetCondition(&schedule.Status.Conditions, schedule.Generation, kind, status, reason, message)
}
