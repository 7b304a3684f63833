// Package atlasjob reconciles AtlasJobs: it submits each one to its stack's REST API exactly once, with a token that lives as long as the call, and
// mirrors the job into status until it is finished. What spec.suspend says is passed on, and deleting an AtlasJob cancels its job.
package atlasjob

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
)

const (
	// tokenTTL is the life of a service token: one call, and the skew between two clocks.
	tokenTTL = time.Minute
	// pollRunning and pollQueued are how often a job is looked at. Both are jittered, so that many jobs don't call at once.
	pollRunning = time.Second
	pollQueued  = 2 * time.Second
	// recheckReferences is how soon a missing reference is looked for again. The stack is watched as well; Secrets are not.
	recheckReferences = 5 * time.Second
	// pollSuspended is how often a job is looked at that can't move before its spec changes.
	pollSuspended = 10 * time.Second
	// recheckRefused is how soon a job that the API doesn't show any more is asked for again.
	recheckRefused = time.Minute
	// A call that failed is tried again after minBackoff, then twice that, up to maxBackoff.
	minBackoff = 500 * time.Millisecond
	maxBackoff = 30 * time.Second

	// submitGrace is how long after the last possible submission a job may still appear: the API gives a request 30 s, the call before it 5 s.
	submitGrace = 45 * time.Second
	// cancelPatience is how long a deleted AtlasJob stays while its job can't be cancelled.
	cancelPatience = 10 * time.Minute
	// barredPatience is the same where the operator may not read the signing key any more, because its Role went with the namespace. The API's pods have gone by then.
	barredPatience = 30 * time.Second

	// finalizer keeps an AtlasJob whose job may exist and may not be final yet.
	finalizer = platformv1alpha1.CancelJobFinalizer

	workers  = 4
	jitter   = 0.5
	stackRef = ".spec.stackRef.name"

	issuer          = "atlas"
	audience        = "atlas-api"
	signingKeyField = "signing-key.pem"
)

// Reconciler reconciles AtlasJobs. Client, Reader and Recorder are required.
type Reconciler struct {
	client.Client
	// Reader reads without a cache. Secrets are read with it, so that the operator never holds more of them than it needs right now.
	Reader client.Reader
	// Recorder writes events.
	Recorder events.EventRecorder
	// HTTP calls the REST API. The default has no proxy and short time-outs. Redirects are never followed.
	HTTP *http.Client
	// BaseURL says where a stack's REST API is. The default is the stack's Service.
	BaseURL func(*platformv1alpha1.AtlasStack) string
	// Clock is time.Now unless a test says otherwise.
	Clock func() time.Time
	// pace multiplies every interval; 0 means 1. Tests are in a hurry.
	pace float64
}

// +kubebuilder:rbac:groups=platform.atlas.dev,resources=atlasjobs,verbs=get;list;watch;delete;patch
// +kubebuilder:rbac:groups=platform.atlas.dev,resources=atlasjobs/status,verbs=patch
// +kubebuilder:rbac:groups=platform.atlas.dev,resources=atlasstacks,verbs=get;list;watch
// +kubebuilder:rbac:groups=platform.atlas.dev,resources=atlasschedules,verbs=get
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// SetupWithManager registers the reconciler and fills in its defaults.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.setDefaults()
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &platformv1alpha1.AtlasJob{}, stackRef, func(object client.Object) []string {
		return []string{object.(*platformv1alpha1.AtlasJob).Spec.StackRef.Name}
	})
	if err != nil {
		return fmt.Errorf("index AtlasJobs by stack: %w", err)
	}
	return ctrl.NewControllerManagedBy(mgr).
		// Own status writes change no generation and must not trigger: the pace is set by the polling interval alone.
		For(&platformv1alpha1.AtlasJob{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&platformv1alpha1.AtlasStack{}, handler.EnqueueRequestsFromMapFunc(r.jobsWaitingFor)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](r.paced(minBackoff), r.paced(maxBackoff)),
		}).
		Complete(r)
}

func (r *Reconciler) setDefaults() {
	if r.HTTP == nil {
		r.HTTP = newHTTPClient()
	}
	r.HTTP = withoutRedirects(r.HTTP)
	if r.BaseURL == nil {
		r.BaseURL = func(stack *platformv1alpha1.AtlasStack) string {
			return "http://" + stack.Name + "-api." + stack.Namespace + ".svc"
		}
	}
	if r.Clock == nil {
		r.Clock = time.Now
	}
}

// jobsWaitingFor lists the AtlasJobs of a stack that are not submitted yet or are being deleted. The others are polled anyway.
func (r *Reconciler) jobsWaitingFor(ctx context.Context, stack client.Object) []reconcile.Request {
	var jobs platformv1alpha1.AtlasJobList
	if err := r.List(ctx, &jobs, client.InNamespace(stack.GetNamespace()), client.MatchingFields{stackRef: stack.GetName()}); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Can't list the AtlasJobs of a stack")
		return nil
	}
	var requests []reconcile.Request
	for i := range jobs.Items {
		// One that is being deleted waits for its job's end, or for the stack's.
		if job := &jobs.Items[i]; !finished(job) && (job.Status.JobID == "" || !job.DeletionTimestamp.IsZero()) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(job)})
		}
	}
	return requests
}

// Reconcile brings one AtlasJob one step further and writes its status once.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	job := &platformv1alpha1.AtlasJob{}
	if err := r.Get(ctx, request.NamespacedName, job); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	deleted := !job.DeletionTimestamp.IsZero()
	switch {
	case deleted && !controllerutil.ContainsFinalizer(job, finalizer):
		return ctrl.Result{}, nil
	case finished(job):
		if err := r.observe(ctx, job); err != nil {
			return r.again(err)
		}
		return r.conclude(ctx, job)
	}

	before := job.DeepCopy()
	step := r.run
	if deleted {
		step = r.cancel
	}
	result, stepErr := step(ctx, job)
	if !deleted && apierrors.IsForbidden(stepErr) && r.goesUnseen(ctx, job) {
		before = job.DeepCopy()
		result, stepErr = r.cancel(ctx, job)
	}
	if errors.Is(stepErr, errStale) {
		return r.again(stepErr)
	}
	job.Status.ObservedGeneration = job.Generation
	if err := r.patchStatus(ctx, before, job); err != nil {
		if apierrors.IsConflict(err) {
			return r.again(err)
		}
		return ctrl.Result{}, errors.Join(stepErr, client.IgnoreNotFound(err))
	}
	r.recordTransition(before, job)
	if finished(job) {
		return r.conclude(ctx, job)
	}
	return result, stepErr
}

// again ends a turn that failed. When the cache was behind, that is no error: what was seen now is seen again on the next turn.
func (r *Reconciler) again(err error) (ctrl.Result, error) {
	if errors.Is(err, errStale) || apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: r.every(pollRunning)}, nil
	}
	return ctrl.Result{}, client.IgnoreNotFound(err)
}

// observe says that what may be changed of a finished AtlasJob was seen. Its outcome stays what it was, for every generation.
func (r *Reconciler) observe(ctx context.Context, job *platformv1alpha1.AtlasJob) error {
	if job.Status.ObservedGeneration == job.Generation {
		return nil
	}
	before := job.DeepCopy()
	job.Status.ObservedGeneration = job.Generation
	for i := range job.Status.Conditions {
		job.Status.Conditions[i].ObservedGeneration = job.Generation
	}
	return r.patchStatus(ctx, before, job)
}

// conclude does what is left to do for an AtlasJob whose outcome is in status: nothing holds it any more, and it goes when its time is over.
func (r *Reconciler) conclude(ctx context.Context, job *platformv1alpha1.AtlasJob) (ctrl.Result, error) {
	if err := r.release(ctx, job); err != nil || !job.DeletionTimestamp.IsZero() {
		return r.again(err)
	}
	return r.expire(ctx, job)
}

// every is an interval, spread.
func (r *Reconciler) every(interval time.Duration) time.Duration {
	return wait.Jitter(r.paced(interval), jitter)
}

func (r *Reconciler) paced(interval time.Duration) time.Duration {
	if r.pace == 0 {
		return interval
	}
	return time.Duration(float64(interval) * r.pace)
}

// expire deletes a finished AtlasJob once its time is over. It is only called with an outcome that is in status already.
func (r *Reconciler) expire(ctx context.Context, job *platformv1alpha1.AtlasJob) (ctrl.Result, error) {
	if job.Spec.TTLSecondsAfterFinished == nil || job.Status.CompletionTime == nil {
		return ctrl.Result{}, nil
	}
	end := job.Status.CompletionTime.Add(time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second)
	if left := end.Sub(r.Clock()); left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	if counted, err := r.counted(ctx, job); err != nil || !counted {
		return ctrl.Result{RequeueAfter: r.every(pollRunning)}, err
	}
	// The UID keeps a stale cache from deleting a new object of the same name.
	err := r.Delete(ctx, job, client.Preconditions{UID: &job.UID})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return ctrl.Result{}, fmt.Errorf("delete the finished AtlasJob: %w", err)
	}
	return ctrl.Result{}, nil
}

// counted says whether the AtlasSchedule that made a job, if any, knows that it has: without the job it would make it again.
func (r *Reconciler) counted(ctx context.Context, job *platformv1alpha1.AtlasJob) (bool, error) {
	owner := metav1.GetControllerOf(job)
	tick, parseErr := time.Parse(time.RFC3339, job.Annotations[platformv1alpha1.ScheduledAtAnnotation])
	if owner == nil || owner.Kind != "AtlasSchedule" || parseErr != nil {
		return true, nil //nolint:nilerr // no schedule made it
	}
	schedule := &platformv1alpha1.AtlasSchedule{}
	err := r.Reader.Get(ctx, client.ObjectKey{Namespace: job.Namespace, Name: owner.Name}, schedule)
	switch {
	case apierrors.IsNotFound(err) || err == nil && schedule.UID != owner.UID:
		return true, nil
	case err != nil:
		return false, fmt.Errorf("read the AtlasSchedule of the AtlasJob: %w", err)
	}
	last := schedule.Status.LastScheduleTime
	return last != nil && !last.Time.Before(tick), nil
}
