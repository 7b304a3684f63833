package atlasschedule

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/internal/crontab"
)

// errStale says that the cache showed an AtlasSchedule that is another one by now. Nothing was done.
var errStale = errors.New("the AtlasSchedule has changed")

// tick makes the job of the last tick that is due and has none, and returns when the next one is.
func (r *Reconciler) tick(ctx context.Context, schedule *platformv1alpha1.AtlasSchedule) (ctrl.Result, error) {
	ticks, err := crontab.Parse(schedule.Spec.Schedule, schedule.Spec.TimeZone)
	if err != nil {
		stalled(schedule, reasonInvalidSchedule, "Nothing is made: "+err.Error()+". Correct spec.schedule or spec.timeZone.")
		return ctrl.Result{}, nil //nolint:nilerr // another try gives the same answer
	}
	schedule.Status.NextScheduleTime = nil
	if schedule.Spec.Suspend {
		ready(schedule, reasonSuspended, "Nothing is made while spec.suspend is true.")
		return ctrl.Result{}, nil
	}
	asleep, err := r.hibernates(ctx, schedule)
	if err != nil {
		return ctrl.Result{}, err
	}
	if asleep {
		ready(schedule, reasonSuspended, fmt.Sprintf("Nothing is made while the AtlasStack %q hibernates.", schedule.Spec.JobTemplate.Spec.StackRef.Name))
		return ctrl.Result{}, nil
	}
	now := r.Clock()
	next, ok := ticks.Next(now)
	if !ok {
		stalled(schedule, reasonInvalidSchedule, "Nothing is made: spec.schedule names no moment of the next years. Correct it.")
		return ctrl.Result{}, nil
	}
	schedule.Status.NextScheduleTime = &metav1.Time{Time: next}
	later := ctrl.Result{RequeueAfter: next.Sub(now) + early}
	ready(schedule, reasonScheduled, "An AtlasJob is made at each tick.")

	tick, due := ticks.Last(since(schedule), now)
	if !due {
		return later, nil
	}
	if deadline := schedule.Spec.StartingDeadlineSeconds; deadline != nil && now.Sub(tick) > time.Duration(*deadline)*time.Second {
		r.warn(schedule, reasonMissed, fmt.Sprintf("No AtlasJob was made for %s: it is later than startingDeadlineSeconds allows.", tick.Format(time.RFC3339)))
		schedule.Status.LastScheduleTime = &metav1.Time{Time: tick} // so that it is said once
		return later, nil
	}
	if err := r.fresh(ctx, schedule); err != nil {
		return later, err
	}
	return later, r.make(ctx, schedule, tick)
}

// since is the moment after which ticks count.
func since(schedule *platformv1alpha1.AtlasSchedule) time.Time {
	if last := schedule.Status.LastScheduleTime; last != nil && last.After(schedule.CreationTimestamp.Time) {
		return last.Time
	}
	return schedule.CreationTimestamp.Time
}

// fresh makes sure that the cache is not behind: it may show a tick as due whose job was made and has been removed since.
func (r *Reconciler) fresh(ctx context.Context, schedule *platformv1alpha1.AtlasSchedule) error {
	live := &platformv1alpha1.AtlasSchedule{}
	if err := r.Reader.Get(ctx, client.ObjectKeyFromObject(schedule), live); err != nil {
		if apierrors.IsNotFound(err) {
			return errStale
		}
		return fmt.Errorf("read the AtlasSchedule again: %w", err)
	}
	if live.UID != schedule.UID || live.Generation != schedule.Generation || !since(live).Equal(since(schedule)) {
		return errStale
	}
	return nil
}

// make makes the job of a tick, as the concurrency policy allows.
func (r *Reconciler) make(ctx context.Context, schedule *platformv1alpha1.AtlasSchedule, tick time.Time) error {
	job, err := r.jobAt(schedule, tick)
	if err != nil {
		return err
	}
	if schedule.Spec.ConcurrencyPolicy == platformv1alpha1.ConcurrencyForbid || schedule.Spec.ConcurrencyPolicy == platformv1alpha1.ConcurrencyReplace {
		jobs, err := r.jobsOf(ctx, r.Reader, schedule)
		if err != nil {
			return err
		}
		for i := range jobs {
			if earlier := &jobs[i]; earlier.Name == job.Name || finished(earlier) {
				continue
			} else if schedule.Spec.ConcurrencyPolicy == platformv1alpha1.ConcurrencyForbid {
				// Its end is watched.
				ready(schedule, reasonJobActive, fmt.Sprintf("The AtlasJob of %s is made once %s is finished.", tick.Format(time.RFC3339), earlier.Name))
				return nil
			} else if err := r.remove(ctx, earlier); err != nil {
				return err
			} else if earlier.DeletionTimestamp.IsZero() {
				r.event(schedule, corev1.EventTypeNormal, reasonReplaced, "Deleted AtlasJob "+earlier.Name+": the next one is due.")
			}
		}
	}
	err = r.Create(ctx, job)
	switch {
	case apierrors.IsAlreadyExists(err):
		if err := r.checkOwner(ctx, schedule, job.Name); err != nil {
			return err
		}
	case apierrors.IsInvalid(err):
		stalled(schedule, reasonInvalidJob, "The AtlasJob can't be made: "+err.Error()+". Correct spec.jobTemplate.")
		return nil
	case err != nil:
		reconciling(schedule, platformv1alpha1.ReasonError, "The AtlasJob of "+tick.Format(time.RFC3339)+" can't be made yet: "+err.Error())
		return fmt.Errorf("create the AtlasJob %s: %w", job.Name, err)
	default:
		r.event(schedule, corev1.EventTypeNormal, reasonMade, "Made AtlasJob "+job.Name+".")
	}
	schedule.Status.LastScheduleTime = &metav1.Time{Time: tick}
	schedule.Status.Active = withName(schedule.Status.Active, job.Name)
	return nil
}

// checkOwner looks whose an AtlasJob is that has a tick's name. One that isn't the schedule's stays, and the tick has no job.
func (r *Reconciler) checkOwner(ctx context.Context, schedule *platformv1alpha1.AtlasSchedule, name string) error {
	found := &platformv1alpha1.AtlasJob{}
	err := r.Reader.Get(ctx, client.ObjectKey{Namespace: schedule.Namespace, Name: name}, found)
	switch {
	case apierrors.IsNotFound(err):
		return errStale
	case err != nil:
		return fmt.Errorf("look whose the AtlasJob %s is: %w", name, err)
	case metav1.IsControlledBy(found, schedule):
		return nil
	case !found.DeletionTimestamp.IsZero():
		return errStale // of an earlier schedule of this name
	}
	r.warn(schedule, reasonNameTaken, "AtlasJob "+name+" exists and is not this AtlasSchedule's: nothing is made for this tick.")
	return nil
}

// jobAt is the job of a tick.
func (r *Reconciler) jobAt(schedule *platformv1alpha1.AtlasSchedule, tick time.Time) (*platformv1alpha1.AtlasJob, error) {
	template := schedule.Spec.JobTemplate.DeepCopy()
	job := &platformv1alpha1.AtlasJob{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: schedule.Namespace, Name: schedule.Name + "-" + strconv.FormatInt(tick.Unix()/60, 10),
			Labels: map[string]string{}, Annotations: map[string]string{},
		},
		Spec: platformv1alpha1.AtlasJobSpec(template.Spec),
	}
	maps.Copy(job.Labels, template.Metadata.Labels)
	maps.Copy(job.Annotations, template.Metadata.Annotations)
	job.Labels[platformv1alpha1.ScheduleLabel] = schedule.Name
	job.Annotations[platformv1alpha1.ScheduledAtAnnotation] = tick.Format(time.RFC3339)
	if err := controllerutil.SetControllerReference(schedule, job, r.Scheme(), controllerutil.WithBlockOwnerDeletion(false)); err != nil {
		return nil, fmt.Errorf("own the AtlasJob: %w", err)
	}
	return job, nil
}

// remove deletes an AtlasJob. The UID keeps a stale cache from deleting another one of the same name.
func (r *Reconciler) remove(ctx context.Context, job *platformv1alpha1.AtlasJob) error {
	if !job.DeletionTimestamp.IsZero() {
		return nil
	}
	err := r.Delete(ctx, job, client.Preconditions{UID: &job.UID}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete the AtlasJob %s: %w", job.Name, err)
	}
	return nil
}
