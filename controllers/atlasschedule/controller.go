// Package atlasschedule reconciles AtlasSchedules: at each tick of a cron expression it makes an AtlasJob whose name is the tick's, so that there is one
// however often it is made, and it removes those that are finished and more than are kept.
package atlasschedule

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
)

const (
	// A call to Kubernetes that failed is tried again after minBackoff, then twice that, up to maxBackoff.
	minBackoff = 500 * time.Millisecond
	maxBackoff = 30 * time.Second
	// recheck is how soon a cache that is behind is looked at again.
	recheck = time.Second
	// early is added to a tick: a timer may fire a little before its time.
	early = 10 * time.Millisecond

	workers = 4
)

// Reconciler reconciles AtlasSchedules. Client, Reader and Recorder are required.
type Reconciler struct {
	client.Client
	// Reader reads without a cache: what a tick leads to must not depend on a cache that is behind.
	Reader client.Reader
	// Recorder writes events.
	Recorder events.EventRecorder
	// Clock is time.Now unless a test says otherwise.
	Clock func() time.Time
}

// +kubebuilder:rbac:groups=platform.atlas.dev,resources=atlasschedules,verbs=get;list;watch
// +kubebuilder:rbac:groups=platform.atlas.dev,resources=atlasschedules/status,verbs=patch
// +kubebuilder:rbac:groups=platform.atlas.dev,resources=atlasjobs,verbs=get;list;watch;create;delete
// +kubebuilder:rbac:groups=platform.atlas.dev,resources=atlasstacks,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// SetupWithManager registers the reconciler and fills in its defaults.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.setDefaults()
	return ctrl.NewControllerManagedBy(mgr).
		For(&platformv1alpha1.AtlasSchedule{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&platformv1alpha1.AtlasJob{}, builder.WithPredicates(phaseChanged)).
		Watches(&platformv1alpha1.AtlasStack{}, handler.EnqueueRequestsFromMapFunc(r.schedulesOf), builder.WithPredicates(fallsAsleepOrWakes)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minBackoff, maxBackoff),
		}).
		Complete(r)
}

func (r *Reconciler) setDefaults() {
	if r.Clock == nil {
		r.Clock = time.Now
	}
}

// phaseChanged lets through what a schedule's status and history depend on: an AtlasJob's progress is not among it.
var phaseChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, ok := e.ObjectOld.(*platformv1alpha1.AtlasJob)
	after, isJob := e.ObjectNew.(*platformv1alpha1.AtlasJob)
	return ok && isJob && (before.Status.Phase != after.Status.Phase || before.DeletionTimestamp.IsZero() != after.DeletionTimestamp.IsZero())
}}

// Reconcile makes the job of a tick that is due, says in status what there is, and comes back at the next tick.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	schedule := &platformv1alpha1.AtlasSchedule{}
	if err := r.Get(ctx, request.NamespacedName, schedule); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !schedule.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil // the garbage collector removes its jobs, which cancels them
	}
	before := schedule.DeepCopy()
	jobs, err := r.jobsOf(ctx, r.Client, schedule)
	if err != nil {
		return ctrl.Result{}, err
	}
	observe(schedule, jobs)
	result, tickErr := r.tick(ctx, schedule)
	if errors.Is(tickErr, errStale) {
		return ctrl.Result{RequeueAfter: recheck}, nil
	}
	schedule.Status.ObservedGeneration = schedule.Generation
	if err := r.patchStatus(ctx, before, schedule); err != nil {
		if apierrors.IsConflict(err) {
			return ctrl.Result{RequeueAfter: recheck}, nil
		}
		return ctrl.Result{}, errors.Join(tickErr, client.IgnoreNotFound(err))
	}
	return result, errors.Join(tickErr, r.prune(ctx, schedule, jobs))
}

// jobsOf lists the AtlasJobs that a schedule made.
func (r *Reconciler) jobsOf(ctx context.Context, from client.Reader, schedule *platformv1alpha1.AtlasSchedule) ([]platformv1alpha1.AtlasJob, error) {
	var all platformv1alpha1.AtlasJobList
	err := from.List(ctx, &all, client.InNamespace(schedule.Namespace), client.MatchingLabels{platformv1alpha1.ScheduleLabel: schedule.Name})
	if err != nil {
		return nil, fmt.Errorf("list the AtlasJobs of the AtlasSchedule: %w", err)
	}
	mine := all.Items[:0]
	for _, job := range all.Items {
		if metav1.IsControlledBy(&job, schedule) {
			mine = append(mine, job)
		}
	}
	return mine, nil
}

// patchStatus writes status if it changed. The resource version goes along: what a stale cache led to must not overwrite a later state.
func (r *Reconciler) patchStatus(ctx context.Context, before, schedule *platformv1alpha1.AtlasSchedule) error {
	if equality.Semantic.DeepEqual(before.Status, schedule.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Status().Patch(ctx, schedule, patch); err != nil {
		return fmt.Errorf("patch the status: %w", err)
	}
	return nil
}

func (r *Reconciler) event(schedule *platformv1alpha1.AtlasSchedule, kind, reason, message string) {
	r.Recorder.Eventf(schedule, nil, kind, reason, "MakeJob", "%s", apply.Message(message))
}

func (r *Reconciler) warn(schedule *platformv1alpha1.AtlasSchedule, reason, message string) {
	r.event(schedule, corev1.EventTypeWarning, reason, message)
}
