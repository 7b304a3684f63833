// Package atlasstack reconciles AtlasStacks: it fetches one, runs an ordered list of steps, and writes the status once at
// the end. What a step returned becomes its condition, in status.go and nowhere else.
package atlasstack

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
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
	"sigs.k8s.io/controller-runtime/pkg/source"

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
	jitter       = 0.2
	firstRetry   = 200 * time.Millisecond
	longestRetry = 30 * time.Second
	// workers is how many stacks are looked at at the same time. Most of a pass is waiting for other systems.
	workers = 24
)

// Reconciler reconciles AtlasStacks.
type Reconciler struct {
	// Client reads through the manager's cache, which must be made with CacheOptions.
	Client client.Client
	// Reader reads from the API server: contents of Secrets and ConfigMaps, pods, and migration Jobs.
	Reader client.Reader
	// Recorder takes an event for each change of a condition.
	Recorder events.EventRecorder
	// ConnectTopic and ConnectIndex reach Kafka and Elasticsearch.
	ConnectTopic topic.Connect
	ConnectIndex template.Connect
	// Interval is DefaultInterval when it is 0.
	Interval time.Duration
	// Namespace is the operator's own, from where it reaches the stacks' APIs; empty when it runs outside the cluster.
	Namespace string
	// Discovery is how often the operator looks for the optional kinds, DefaultDiscovery when it is 0.
	Discovery time.Duration
	// Clock is time.Now unless a test says otherwise.
	Clock func() time.Time

	kinds    *kinds
	applier  *apply.Applier
	contents contents
	gates    gates
	holders  holders
	memory   memory
	// written are the resourceVersions that the status of stacks was written with, by name, until the cache has caught up.
	written sync.Map
}

// +kubebuilder:rbac:groups=platform.atlas.dev,resources=atlasstacks,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=platform.atlas.dev,resources=atlasjobs,verbs=list;watch;create;delete
// +kubebuilder:rbac:groups=platform.atlas.dev,resources=atlasstacks/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=services,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=serviceaccounts,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=networking.k8s.io,resources=ingresses;networkpolicies,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=pods,verbs=list
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=autoscaling,resources=horizontalpodautoscalers,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=httproutes,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=monitoring.coreos.com,resources=servicemonitors;podmonitors,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=keda.sh,resources=scaledobjects;triggerauthentications,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// SetupWithManager registers the reconciler with the manager.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.setDefaults(mgr.GetCache())
	if err := index(mgr); err != nil {
		return err
	}
	var err error
	if r.kinds, err = newKinds(mgr, r.Discovery); err != nil {
		return err
	}
	err = ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.AtlasStack{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.Funcs{UpdateFunc: asked}))).
		Owns(&appsv1.Deployment{}).
		Owns(&batchv1.Job{}).
		Owns(&corev1.Service{}).
		Owns(&policyv1.PodDisruptionBudget{}).
		Watches(&v1alpha1.AtlasStack{}, handler.EnqueueRequestsFromMapFunc(r.rivals), builder.WithPredicates(claimsGo())).
		Owns(&networkingv1.Ingress{}).
		Owns(&networkingv1.NetworkPolicy{}, builder.OnlyMetadata).
		Owns(&corev1.ConfigMap{}, builder.OnlyMetadata).
		Owns(&autoscalingv2.HorizontalPodAutoscaler{}, builder.WithPredicates(predicate.Funcs{UpdateFunc: changed})).
		Watches(&v1alpha1.AtlasJob{}, handler.EnqueueRequestsFromMapFunc(stackOfReindex), builder.WithPredicates(predicate.Funcs{UpdateFunc: phaseChanged})).
		Watches(&v1alpha1.AtlasJob{}, handler.EnqueueRequestsFromMapFunc(r.stackOfHeld), builder.WithPredicates(predicate.Funcs{UpdateFunc: heldChanged})).
		Owns(&corev1.ServiceAccount{}).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.stacksOf(secretIndex))).
		WatchesMetadata(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(r.stacksOf(configMapIndex))).
		WatchesRawSource(source.Func(r.kinds.source)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, longestRetry),
		}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the AtlasStack controller: %w", err)
	}
	return nil
}

func (r *Reconciler) setDefaults(cache client.Reader) {
	r.applier = apply.NewApplier(cachingClient{Client: r.Client, cache: cache}, r.Reader)
	r.holders.byKey, r.holders.waiting = map[string]holder{}, map[string]map[types.NamespacedName]bool{}
	if r.Interval == 0 {
		r.Interval = DefaultInterval
	}
}

func (r *Reconciler) now() time.Time {
	if r.Clock == nil {
		return time.Now()
	}
	return r.Clock()
}

// pass is one reconciliation of one stack.
type pass struct {
	stack  *v1alpha1.AtlasStack
	inputs workloads.Inputs
	// problems are what is wrong with what the stack refers to.
	problems []*problem
	// memory is what is known of the stack from earlier passes.
	memory *remembered
	// recipe is what the roles are made of in this pass.
	recipe *recipe
	// applied are the generations that the Deployments had after they were applied, and current is true when all of them were, as the spec is.
	applied map[workloads.Role]int64
	current bool
	// failed are the steps that are not done, by their condition.
	failed map[string]error
	// auth is the generated Secret with the signing key.
	auth content
	// soon is when to look again at the latest; 0 says nothing.
	soon time.Duration
	// scaling tells of the Deployments whose autoscaler is changing the number of their pods.
	scaling []string
	// outdated is the index, when it is of another definition than asked for.
	outdated *apply.Outdated
}

// Reconcile brings one stack closer to its spec.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, err error) {
	before, err := r.read(ctx, req.NamespacedName)
	if err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(req.NamespacedName)
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, fmt.Errorf("read the AtlasStack: %w", err)
	}
	if !before.DeletionTimestamp.IsZero() {
		return againAfter(r.terminate(ctx, before))
	}

	p := &pass{stack: before.DeepCopy(), failed: map[string]error{}, memory: r.memory.of(before)}
	p.memory.reread = false
	defer func() { p.memory.reread = p.memory.reread || apierrors.IsForbidden(err) }()
	defer func() {
		if patchErr := r.patchStatus(ctx, before, p.stack); patchErr != nil {
			result, err = ctrl.Result{}, errors.Join(err, patchErr)
		}
	}()
	if p.stack.Spec.Paused {
		summarizePaused(p.stack)
		return ctrl.Result{}, nil
	}
	if err := r.hold(ctx, before); err != nil {
		return againAfter(ctrl.Result{}, err)
	}
	p.stack.ObjectMeta = *before.ObjectMeta.DeepCopy()
	r.claims(ctx, p)
	for _, s := range r.steps(p) {
		p.run(ctx, s)
	}
	if p.stack.Spec.Hibernate {
		p.sleep()
	}
	r.observe(ctx, p)
	r.rotate(ctx, p)
	r.reindex(ctx, p)
	summarize(p)
	p.stack.Status.LastHandledReconcileAt = p.stack.Annotations[v1alpha1.ReconcileRequestAnnotation]
	return r.next(p)
}

// againAfter ends a reconciliation that failed before or after all steps. That something was not as the cache shows it is no error.
func againAfter(result ctrl.Result, err error) (ctrl.Result, error) {
	if waiting, ok := apply.AsWaiting(err); ok {
		return ctrl.Result{RequeueAfter: wait.Jitter(waiting.After, jitter)}, nil
	}
	return result, err
}

// wake asks for another pass after a while, if not sooner.
func (p *pass) wake(after time.Duration) {
	if p.soon == 0 || after < p.soon {
		p.soon = after
	}
}

// next says when to look again: soonest for a step that waits, with a back-off for errors, else at the interval.
func (r *Reconciler) next(p *pass) (ctrl.Result, error) {
	after := wait.Jitter(r.Interval, jitter)
	if p.soon > 0 {
		after = min(after, p.soon)
	}
	var failures []error
	for _, err := range p.failed {
		if waiting, ok := apply.AsWaiting(err); ok {
			if waiting.After > 0 {
				after = min(after, wait.Jitter(waiting.After, jitter))
			}
		} else if stalled, ok := apply.AsStalled(err); !ok {
			failures = append(failures, err)
		} else if stalled.After > 0 {
			after = min(after, wait.Jitter(stalled.After, jitter))
		}
	}
	if len(failures) > 0 {
		return ctrl.Result{}, errors.Join(failures...)
	}
	return ctrl.Result{RequeueAfter: after}, nil
}

// read returns the stack as it is after this reconciler's last write. The cache may not have that yet, and a status that is compared with an older one may seem
// to be there already.
func (r *Reconciler) read(ctx context.Context, name types.NamespacedName) (*v1alpha1.AtlasStack, error) {
	stack := &v1alpha1.AtlasStack{}
	if err := r.Client.Get(ctx, name, stack); err != nil {
		return nil, err
	}
	written, ok := r.written.Load(name)
	if ok && stack.ResourceVersion == written {
		r.written.Delete(name)
		ok = false
	}
	if !ok && !r.memory.of(stack).reread {
		return stack, nil
	}
	now := &v1alpha1.AtlasStack{}
	if err := apply.Reread(ctx, r.Reader, r.Client, name, now); err != nil {
		return nil, err
	}
	if now.ResourceVersion == stack.ResourceVersion {
		r.written.Delete(name)
	}
	return now, nil
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
	r.written.Store(client.ObjectKeyFromObject(stack), stack.ResourceVersion)
	r.tell(before, stack)
	return nil
}

// forget drops what is remembered about a stack that is gone.
func (r *Reconciler) forget(name types.NamespacedName) {
	stack := &v1alpha1.AtlasStack{}
	stack.Name = name.Name
	names := []string{stack.Name, workloads.DashboardsName(stack), workloads.OpsServiceName(stack), workloads.Name(stack, workloads.RoleMigrate)}
	for _, role := range workloads.Roles() {
		names = append(names, workloads.Name(stack, role))
	}
	r.applier.Forget(name.Namespace, names)
	r.gates.forget()
	r.contents.forget(name.Namespace)
	r.written.Delete(name)
	r.holders.forget(name)
	r.memory.forget(name)
}
