package atlasstack

import (
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/workloads"
	"github.com/atlas-platform/atlas/internal/pause"
)

// DefaultDiscovery is how often the operator looks which of the optional kinds are in the cluster: one request for each of their groups. Their CRDs can't
// be watched, because an operator of a few namespaces may not read what belongs to no namespace.
const DefaultDiscovery = 30 * time.Second

type requestQueue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// kinds knows which optional kinds are in the cluster, and watches the stacks' objects of those that are. A CRD may come and go while the operator runs.
type kinds struct {
	discovery discovery.ServerResourcesInterface
	cache     cache.Cache
	client    client.Client
	every     time.Duration

	mu      sync.Mutex
	queue   requestQueue
	checked bool
	present map[schema.GroupVersionKind]toolscache.ResourceEventHandlerRegistration
}

func newKinds(mgr ctrl.Manager, every time.Duration) (*kinds, error) {
	d, err := discovery.NewDiscoveryClientForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return nil, fmt.Errorf("make the discovery client: %w", err)
	}
	if every == 0 {
		every = DefaultDiscovery
	}
	k := &kinds{
		discovery: d, cache: mgr.GetCache(), client: mgr.GetClient(), every: every,
		present: map[schema.GroupVersionKind]toolscache.ResourceEventHandlerRegistration{},
	}
	if err := mgr.Add(k); err != nil {
		return nil, fmt.Errorf("add the discovery of optional kinds: %w", err)
	}
	return k, nil
}

// source gives kinds the controller's queue.
func (k *kinds) source(_ context.Context, queue requestQueue) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.queue = queue
	return nil
}

// Start looks again and again. The manager calls it once.
func (k *kinds) Start(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := k.refresh(ctx); err != nil && ctx.Err() == nil {
			logf.FromContext(ctx).V(1).Info("Look for optional kinds", "error", err)
		}
		_ = pause.For(ctx, wait.Jitter(k.every, jitter)) // the condition above sees the end
	}
	return nil
}

// has tells whether a kind is in the cluster, and whether its objects are in the cache yet.
func (k *kinds) has(ctx context.Context, kind workloads.OptionalKind) (present, synced bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.checked {
		if err := k.refreshLocked(ctx); err != nil {
			return false, false, err
		}
	}
	registration := k.present[kind.GroupVersionKind]
	return registration != nil, registration != nil && registration.HasSynced(), nil
}

// refresh asks the API server for the kinds and acts on those that came or went.
func (k *kinds) refresh(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.refreshLocked(ctx)
}

func (k *kinds) refreshLocked(ctx context.Context) error {
	if k.queue == nil {
		return nil // the controller has not started
	}
	groups, changed := map[schema.GroupVersion]map[string]bool{}, false
	for _, kind := range workloads.OptionalKinds() {
		served, err := k.served(groups, kind.GroupVersion())
		if err != nil {
			return err
		}
		registration := k.present[kind.GroupVersionKind]
		switch {
		case served[kind.Kind] && registration == nil:
			registration, err = k.watch(ctx, kind)
			if meta.IsNoMatchError(err) {
				continue // just gone, or not known to the mapper yet: the next look tells
			}
			if err != nil {
				return err
			}
			k.present[kind.GroupVersionKind] = registration
		case !served[kind.Kind] && registration != nil:
			delete(k.present, kind.GroupVersionKind)
			if err := k.cache.RemoveInformer(ctx, cached(kind)); err != nil {
				return fmt.Errorf("stop watching %s: %w", kind.Kind, err)
			}
		default:
			continue
		}
		changed = true
	}
	if changed && k.checked {
		k.enqueueAll(ctx)
	}
	k.checked = true
	return nil
}

// served are the kinds of a group, which is asked for once.
func (k *kinds) served(groups map[schema.GroupVersion]map[string]bool, group schema.GroupVersion) (map[string]bool, error) {
	if known, ok := groups[group]; ok {
		return known, nil
	}
	found := map[string]bool{}
	list, err := k.discovery.ServerResourcesForGroupVersion(group.String())
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("look for the kinds of %s: %w", group, err)
	}
	if err == nil {
		for i := range list.APIResources {
			found[list.APIResources[i].Kind] = true
		}
	}
	groups[group] = found
	return found, nil
}

// watch caches the labelled objects of a kind, and reconciles the stack whose object changes.
func (k *kinds) watch(ctx context.Context, kind workloads.OptionalKind) (toolscache.ResourceEventHandlerRegistration, error) {
	informer, err := k.cache.GetInformer(ctx, cached(kind), cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", kind.Kind, err)
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: k.enqueueOwner,
		UpdateFunc: func(before, after any) {
			was, ok := before.(client.Object)
			is, also := after.(client.Object)
			if !ok || !also || apply.Version(was) != apply.Version(is) {
				k.enqueueOwner(before) // whom it may have lost
				k.enqueueOwner(after)
			}
		},
		DeleteFunc: k.enqueueOwner,
	})
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", kind.Kind, err)
	}
	return registration, nil
}

// enqueueOwner runs on an informer's goroutine, where k.mu may be held by who waits for the informer; the queue is set by then and never changes.
func (k *kinds) enqueueOwner(object any) {
	if gone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	o, ok := object.(metav1.Object)
	if !ok {
		return
	}
	ref := metav1.GetControllerOf(o)
	if ref == nil || ref.Kind != "AtlasStack" || ref.APIVersion != v1alpha1.GroupVersion.String() {
		return
	}
	k.queue.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: ref.Name}})
}

// enqueueAll reconciles every stack, which may ask for what came or went.
func (k *kinds) enqueueAll(ctx context.Context) {
	stacks := &v1alpha1.AtlasStackList{}
	if err := k.client.List(ctx, stacks); err != nil {
		logf.FromContext(ctx).Error(err, "List the stacks after a kind came or went")
		return
	}
	for i := range stacks.Items {
		k.queue.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&stacks.Items[i])})
	}
}

// cached is an empty object of a kind in the form in which it is cached.
func cached(kind workloads.OptionalKind) client.Object {
	var object client.Object = &metav1.PartialObjectMetadata{}
	if kind.Whole {
		object = &unstructured.Unstructured{}
	}
	object.GetObjectKind().SetGroupVersionKind(kind.GroupVersionKind)
	return object
}

// cachingClient reads unstructured objects through the cache too.
type cachingClient struct {
	client.Client
	cache client.Reader
}

func (c cachingClient) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if _, ok := object.(*unstructured.Unstructured); ok {
		return c.cache.Get(ctx, key, object, options...)
	}
	return c.Client.Get(ctx, key, object, options...)
}
