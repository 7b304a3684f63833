// Package atlasstack reconciles AtlasStacks: it fetches one, runs an ordered list of steps, and writes the status once at
// the end. What a step returned becomes its condition, in status.go and nowhere else.
package atlasstack

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/template"
	"github.com/atlas-platform/atlas/controllers/topic"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// DefaultInterval is how often a stack is looked at when nothing happens, to put right what changed in Kafka and
// Elasticsearch, where nothing can be watched.
const DefaultInterval = time.Minute

const (
	jitter         = 0.2
	firstRetry     = 200 * time.Millisecond
	longestRetry   = 30 * time.Second
	defaultWorkers = 4
)

// Reconciler reconciles AtlasStacks.
type Reconciler struct {
	// Client reads through the manager's cache, which must be made with CacheOptions.
	Client client.Client
	// Reader reads from the API server: contents of Secrets, pods, and migration Jobs.
	Reader client.Reader
	// Recorder takes an event for each change of a condition.
	Recorder events.EventRecorder
	// ConnectTopic and ConnectIndex reach Kafka and Elasticsearch.
	ConnectTopic topic.Connect
	ConnectIndex template.Connect
	// Interval is DefaultInterval when it is 0.
	Interval time.Duration

	applier *apply.Applier
}

// +kubebuilder:rbac:groups=platform.atlas.dev,resources=atlasstacks,verbs=get;list;watch
// +kubebuilder:rbac:groups=platform.atlas.dev,resources=atlasstacks/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create
// +kubebuilder:rbac:groups="",resources=services;serviceaccounts,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups="",resources=pods,verbs=list
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// SetupWithManager registers the reconciler with the manager.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.applier = apply.NewApplier(r.Client, r.Reader)
	if r.Interval == 0 {
		r.Interval = DefaultInterval
	}
	if err := indexSecrets(mgr); err != nil {
		return err
	}
	err := ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.AtlasStack{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&appsv1.Deployment{}).
		Owns(&batchv1.Job{}).
		Owns(&corev1.Service{}).
		Owns(&corev1.ServiceAccount{}).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.stacksOfSecret)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: defaultWorkers,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, longestRetry),
		}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the AtlasStack controller: %w", err)
	}
	return nil
}

// pass is one reconciliation of one stack.
type pass struct {
	stack   *v1alpha1.AtlasStack
	secrets workloads.Secrets
	// applied are the generations that the Deployments had after they were applied; nil when they were not.
	applied map[workloads.Role]int64
	// failed are the steps that are not done, by their condition.
	failed map[string]error
}

// Reconcile brings one stack closer to its spec.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, err error) {
	before := &v1alpha1.AtlasStack{}
	if err := r.Client.Get(ctx, req.NamespacedName, before); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(req.NamespacedName)
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, fmt.Errorf("read the AtlasStack: %w", err)
	}
	if !before.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil // the garbage collector removes what the stack owns
	}

	p := &pass{stack: before.DeepCopy(), failed: map[string]error{}}
	defer func() {
		if patchErr := r.patchStatus(ctx, before, p.stack); patchErr != nil {
			result, err = ctrl.Result{}, errors.Join(err, patchErr)
		}
	}()
	if p.stack.Spec.Paused {
		summarizePaused(p.stack)
		return ctrl.Result{}, nil
	}
	for _, s := range r.steps() {
		p.run(ctx, s)
	}
	r.observe(ctx, p)
	summarize(p)
	return r.next(p)
}

// next says when to look again: soonest for a step that waits, with a back-off for errors, else at the interval.
func (r *Reconciler) next(p *pass) (ctrl.Result, error) {
	after := wait.Jitter(r.Interval, jitter)
	var failures []error
	for _, err := range p.failed {
		if waiting, ok := apply.AsWaiting(err); ok {
			if waiting.After > 0 {
				after = min(after, wait.Jitter(waiting.After, jitter))
			}
		} else if _, ok := apply.AsStalled(err); !ok {
			failures = append(failures, err)
		}
	}
	if len(failures) > 0 {
		return ctrl.Result{}, errors.Join(failures...)
	}
	return ctrl.Result{RequeueAfter: after}, nil
}

// patchStatus writes the status if it changed, and tells about conditions that did.
func (r *Reconciler) patchStatus(ctx context.Context, before, stack *v1alpha1.AtlasStack) error {
	if equality.Semantic.DeepEqual(before.Status, stack.Status) {
		return nil
	}
	err := r.Client.Status().Patch(ctx, stack, client.MergeFrom(before), client.FieldOwner(apply.FieldManager))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write the status: %w", err)
	}
	r.tell(before, stack)
	return nil
}

// forget drops what is remembered about a stack that is gone.
func (r *Reconciler) forget(name types.NamespacedName) {
	stack := &v1alpha1.AtlasStack{}
	stack.Name = name.Name
	names := []string{workloads.Name(stack, workloads.RoleMigrate)}
	for _, role := range workloads.Roles() {
		names = append(names, workloads.Name(stack, role))
	}
	r.applier.Forget(name.Namespace, names)
}
