package atlasjob

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	atlas "github.com/atlas-platform/atlas/client"
	"github.com/atlas-platform/atlas/controllers/apply"
)

// cancel cancels the job of an AtlasJob that is being deleted, and lets go of the AtlasJob once the job is final, is known not to exist, or can't be
// cancelled for good: its stack is gone, or the API hasn't answered for cancelPatience.
func (r *Reconciler) cancel(ctx context.Context, job *platformv1alpha1.AtlasJob) (ctrl.Result, error) {
	calls, result, err := r.connect(ctx, job)
	var remote *atlas.Job
	if calls != nil {
		if remote, err = r.cancelRemote(ctx, *calls, job); err == nil && remote == nil {
			return r.withoutJob(ctx, job)
		}
		if remote != nil {
			conditions := slices.Clone(job.Status.Conditions)
			mirror(job, remote, r.Clock())
			if !finished(job) {
				job.Status.Conditions = conditions // what is said below must not look new each time
			}
		}
	}
	switch {
	case finished(job):
		return ctrl.Result{}, nil // Reconcile lets go of it, once its outcome is written
	case calls == nil && conditionReason(job) == reasonStackNotFound:
		return ctrl.Result{}, r.abandon(ctx, job, "its AtlasStack is gone")
	case calls == nil && apierrors.IsForbidden(err) && r.Clock().Sub(job.DeletionTimestamp.Time) >= r.paced(barredPatience):
		return ctrl.Result{}, r.abandon(ctx, job, "the operator has no right in its namespace any more ("+err.Error()+")")
	case r.Clock().Sub(job.DeletionTimestamp.Time) >= r.paced(cancelPatience):
		return ctrl.Result{}, r.abandon(ctx, job, fmt.Sprintf("it was not final %s after the deletion", r.paced(cancelPatience)))
	}
	message := "The job was asked to stop."
	switch {
	case calls == nil:
		message = conditionMessage(job)
	case err != nil:
		message = "The API can't be asked: " + err.Error()
		result, err = ctrl.Result{}, fmt.Errorf("cancel the job: %w", err)
	default:
		result = ctrl.Result{RequeueAfter: r.every(pollRunning)}
	}
	until := job.DeletionTimestamp.Add(r.paced(cancelPatience)).UTC().Format(time.RFC3339)
	waiting(job, reasonCancelling, "The AtlasJob goes once its job is final, at "+until+" at the latest. "+message)
	return result, err
}

// goesUnseen is for an AtlasJob that the API server refused something for. Its namespace may be on its way out, with the operator's Role gone first and with it the watch that
// would have told of the deletion. Where it is being deleted, it is read anew.
func (r *Reconciler) goesUnseen(ctx context.Context, job *platformv1alpha1.AtlasJob) bool {
	now := &platformv1alpha1.AtlasJob{}
	err := apply.Reread(ctx, r.Reader, r.Client, client.ObjectKeyFromObject(job), now)
	if err != nil || now.UID != job.UID || now.DeletionTimestamp.IsZero() {
		return false // what was refused is told, and tried again
	}
	*job = *now
	return true
}

// cancelRemote cancels the job and returns it; nil when there is none.
func (r *Reconciler) cancelRemote(ctx context.Context, calls jobsClient, job *platformv1alpha1.AtlasJob) (*atlas.Job, error) {
	id := job.Status.JobID
	if id == "" {
		remote, err := calls.find(ctx, string(job.UID))
		if remote == nil || err != nil {
			return nil, err
		}
		id = remote.ID.String()
		job.Status.JobID = id
	}
	remote, err := calls.cancel(ctx, id)
	if !isNotFound(err) {
		return remote, err
	}
	// An API of an earlier release can't cancel and says the same.
	remote, getErr := calls.get(ctx, id)
	switch {
	case isNotFound(getErr):
		return nil, nil
	case getErr != nil:
		return nil, getErr
	case !final(remote):
		return remote, fmt.Errorf("the API doesn't cancel jobs: %w", err)
	}
	return remote, nil
}

// withoutJob lets go of an AtlasJob that has no job. When it is not known that there was one, a request that was on its way when its sender died may still
// arrive, so it is looked for until that is over.
func (r *Reconciler) withoutJob(ctx context.Context, job *platformv1alpha1.AtlasJob) (ctrl.Result, error) {
	grace := job.DeletionTimestamp.Add(r.paced(submitGrace))
	if job.Status.JobID == "" && r.Clock().Before(grace) {
		waiting(job, reasonCancelling, "There is no job yet. The AtlasJob goes at "+grace.UTC().Format(time.RFC3339)+
			", when none can appear any more that was submitted before the deletion.")
		return ctrl.Result{RequeueAfter: min(grace.Sub(r.Clock()), r.every(pollSuspended))}, nil
	}
	return ctrl.Result{}, r.letGo(ctx, job)
}

// abandon lets go of an AtlasJob whose job may go on.
func (r *Reconciler) abandon(ctx context.Context, job *platformv1alpha1.AtlasJob, why string) error {
	name := "its job"
	if job.Status.JobID != "" {
		name = "job " + job.Status.JobID
	}
	kind, _ := eventType(reasonAbandoned, job)
	r.Recorder.Eventf(job, nil, kind, reasonAbandoned, "CancelJob", "%s", apply.Message("The AtlasJob is let go although "+name+" may go on: "+why+"."))
	return r.letGo(ctx, job)
}

// letGo ends the turn: an AtlasJob that is gone has no status.
func (r *Reconciler) letGo(ctx context.Context, job *platformv1alpha1.AtlasJob) error {
	if err := r.release(ctx, job); err != nil {
		return err
	}
	return errStale
}

func isNotFound(err error) bool {
	var refused *refusedError
	return errors.As(err, &refused) && refused.answer.StatusCode == 404
}
