package atlasjob

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	atlas "github.com/atlas-platform/atlas/client"
	"github.com/atlas-platform/atlas/controllers/apply"
)

// errStale says that the cache showed an AtlasJob that is another one by now. Nothing was done, and nothing is to be written.
var errStale = errors.New("the AtlasJob has changed")

// run submits the job or looks at it, passes spec.suspend on, and says in job.Status what it saw. An error asks for another try with backoff; status
// already tells of it.
func (r *Reconciler) run(ctx context.Context, job *platformv1alpha1.AtlasJob) (ctrl.Result, error) {
	if job.Status.Phase == "" {
		job.Status.Phase = platformv1alpha1.AtlasJobPending
	}
	if job.Spec.Suspend && !submitted(job) {
		suspended(job, "The job is not submitted before suspend is removed.")
		return ctrl.Result{}, nil
	}
	calls, result, err := r.connect(ctx, job)
	if calls == nil {
		return result, err
	}
	submitting := job.Status.JobID == ""
	remote, err := r.look(ctx, *calls, job)
	switch {
	case errors.Is(err, errStale):
		return ctrl.Result{}, err
	case err != nil:
		return r.callFailed(job, submitting, err)
	case remote == nil:
		// It may have been submitted without anybody knowing, and may appear yet.
		suspended(job, "The job is not submitted before suspend is removed.")
		return ctrl.Result{RequeueAfter: r.every(pollSuspended)}, nil
	}
	mirror(job, remote, r.Clock())
	if !finished(job) && remote.Paused != job.Spec.Suspend {
		if remote, err = calls.pause(ctx, remote.ID, job.Spec.Suspend); err != nil {
			return r.pauseFailed(job, err)
		}
		mirror(job, remote, r.Clock())
	}
	switch job.Status.Phase {
	case platformv1alpha1.AtlasJobSuspended:
		return ctrl.Result{RequeueAfter: r.every(pollSuspended)}, nil
	case platformv1alpha1.AtlasJobQueued:
		return ctrl.Result{RequeueAfter: r.every(pollQueued)}, nil
	default:
		return ctrl.Result{RequeueAfter: r.every(pollRunning)}, nil
	}
}

// connect makes a client for the stack's API. When there is none, status says why, and the result and the error say when to try again.
func (r *Reconciler) connect(ctx context.Context, job *platformv1alpha1.AtlasJob) (*jobsClient, ctrl.Result, error) {
	later := ctrl.Result{RequeueAfter: r.every(recheckReferences)}
	stack := &platformv1alpha1.AtlasStack{}
	err := r.Get(ctx, types.NamespacedName{Namespace: job.Namespace, Name: job.Spec.StackRef.Name}, stack)
	if apierrors.IsNotFound(err) {
		waiting(job, reasonStackNotFound, fmt.Sprintf("There is no AtlasStack %q in this namespace: create it, or delete this AtlasJob.", job.Spec.StackRef.Name))
		return nil, later, nil
	}
	if err != nil {
		waiting(job, platformv1alpha1.ReasonError, "The AtlasStack can't be read.")
		return nil, ctrl.Result{}, fmt.Errorf("get the AtlasStack: %w", err)
	}
	if stack.Spec.Hibernate && job.DeletionTimestamp.IsZero() {
		waiting(job, reasonStackNotReady, fmt.Sprintf("The AtlasStack %q hibernates; the job goes on as soon as it is awake and Ready.", stack.Name))
		return nil, later, nil
	}
	// A submitted job is followed whatever the stack's state is: the API may well answer while a pod of another role is replaced.
	if job.Status.JobID == "" && job.DeletionTimestamp.IsZero() && !ready(stack) {
		waiting(job, reasonStackNotReady, fmt.Sprintf("The AtlasStack %q is not Ready; the job is submitted as soon as it is.", stack.Name))
		return nil, later, nil
	}
	key, reason, err := r.signingKey(ctx, stack)
	if err != nil {
		waiting(job, reason, err.Error())
		if reason == platformv1alpha1.ReasonError {
			return nil, ctrl.Result{}, err
		}
		return nil, later, nil
	}
	calls, err := r.jobsClient(stack, key)
	if err != nil {
		return nil, ctrl.Result{}, err
	}
	return &calls, ctrl.Result{}, nil
}

// look returns the AtlasJob's job: the one that status names, the one that was submitted without status knowing, or one that is submitted now. It is nil
// when there is none and spec.suspend keeps it from being submitted.
func (r *Reconciler) look(ctx context.Context, calls jobsClient, job *platformv1alpha1.AtlasJob) (*atlas.Job, error) {
	if job.Status.JobID != "" {
		if !controllerutil.ContainsFinalizer(job, finalizer) { // an earlier release submitted it
			if err := r.hold(ctx, job); err != nil {
				return nil, err
			}
		}
		return calls.get(ctx, job.Status.JobID)
	}
	key := string(job.UID)
	if submitted(job) {
		remote, err := calls.find(ctx, key)
		var refused *refusedError
		if remote != nil || err != nil && !errors.As(err, &refused) { // an API of an earlier release can't look for it; its POST finds it
			return remote, err
		}
	}
	if job.Spec.Suspend {
		return nil, nil
	}
	if err := r.hold(ctx, job); err != nil {
		return nil, err
	}
	// CEL makes sure that the parameters of its type are there, and well formed.
	kind, parameters := job.Spec.JobRequest()
	var options []atlas.JobOption
	if job.Spec.Priority != nil {
		options = append(options, atlas.WithPriority(int(*job.Spec.Priority)))
	}
	if job.Spec.MaxAttempts != nil {
		options = append(options, atlas.WithMaxAttempts(int(*job.Spec.MaxAttempts)))
	}
	request, err := atlas.NewJob(kind, parameters, options...)
	if err != nil {
		return nil, err
	}
	return calls.submit(ctx, key, request)
}

// submitted says that the job may have been submitted. It certainly has not been before the finalizer was there.
func submitted(job *platformv1alpha1.AtlasJob) bool {
	return job.Status.JobID != "" || controllerutil.ContainsFinalizer(job, finalizer)
}

// hold makes sure, just before the job is submitted, that the AtlasJob is not being deleted and can't go unseen. The API server has the last word: the
// cache may be behind.
func (r *Reconciler) hold(ctx context.Context, job *platformv1alpha1.AtlasJob) error {
	if !controllerutil.ContainsFinalizer(job, finalizer) {
		return r.patchFinalizers(ctx, job, controllerutil.AddFinalizer)
	}
	live := &platformv1alpha1.AtlasJob{}
	if err := r.Reader.Get(ctx, client.ObjectKeyFromObject(job), live); err != nil {
		if apierrors.IsNotFound(err) {
			return errStale
		}
		return fmt.Errorf("read the AtlasJob again: %w", err)
	}
	if live.UID != job.UID || live.Generation != job.Generation || live.Status.JobID != job.Status.JobID { // a deletion is a generation too
		return errStale
	}
	return nil
}

// release lets go of an AtlasJob.
func (r *Reconciler) release(ctx context.Context, job *platformv1alpha1.AtlasJob) error {
	if !controllerutil.ContainsFinalizer(job, finalizer) {
		return nil
	}
	err := r.patchFinalizers(ctx, job, controllerutil.RemoveFinalizer)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// patchFinalizers changes nothing but metadata. The resource version goes along: the list is replaced as a whole, and others have finalizers too.
func (r *Reconciler) patchFinalizers(ctx context.Context, job *platformv1alpha1.AtlasJob, change func(client.Object, string) bool) error {
	changed := job.DeepCopy()
	change(changed, finalizer)
	patch := client.MergeFromWithOptions(job.DeepCopy(), client.MergeFromWithOptimisticLock{})
	if err := r.Patch(ctx, changed, patch, client.FieldOwner(apply.FieldManager)); err != nil {
		if apierrors.IsConflict(err) {
			return errStale
		}
		return fmt.Errorf("patch the finalizers: %w", err)
	}
	job.ObjectMeta = changed.ObjectMeta // status keeps what is not written yet
	return nil
}

// callFailed says in status what a failed call means.
func (r *Reconciler) callFailed(job *platformv1alpha1.AtlasJob, submitting bool, err error) (ctrl.Result, error) {
	var refused *refusedError
	var unauthorized *unauthorizedError
	switch {
	case errors.As(err, &unauthorized):
		waiting(job, reasonUnauthorized, "The API doesn't accept the operator's token; it does once its pods run with the stack's current signing key. It says: "+err.Error())
		return ctrl.Result{}, err
	case errors.As(err, &refused) && submitting:
		// The spec can't change and the key stays the same, so the answer would too: this is an end.
		refuse(job, refused, r.Clock())
		return ctrl.Result{}, nil
	case errors.As(err, &refused):
		lost(job, refused)
		return ctrl.Result{RequeueAfter: r.every(recheckRefused)}, nil
	default:
		waiting(job, platformv1alpha1.ReasonUnreachable, "The API can't be asked; it is tried again: "+err.Error())
		return ctrl.Result{}, fmt.Errorf("call the API: %w", err)
	}
}

// pauseFailed says in status that the job is not as spec.suspend wants it.
func (r *Reconciler) pauseFailed(job *platformv1alpha1.AtlasJob, err error) (ctrl.Result, error) {
	var refused *refusedError
	if !errors.As(err, &refused) {
		return r.callFailed(job, false, err)
	}
	waiting(job, platformv1alpha1.ReasonRefused, "The API doesn't pause or resume the job. It says: "+err.Error())
	return ctrl.Result{RequeueAfter: r.every(recheckRefused)}, nil
}

// ready says that a stack is Ready as its spec is now.
func ready(stack *platformv1alpha1.AtlasStack) bool {
	condition := meta.FindStatusCondition(stack.Status.Conditions, platformv1alpha1.ConditionReady)
	return stack.DeletionTimestamp.IsZero() && condition != nil && condition.Status == metav1.ConditionTrue && condition.ObservedGeneration == stack.Generation
}
