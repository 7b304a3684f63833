package atlasstack

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// These indexes find the stacks that refer to a Secret or a ConfigMap, whether it exists or not, and without a label on it.
const (
	secretIndex    = "secrets"
	configMapIndex = "configmaps"
)

// index makes every index of the controller.
func index(mgr ctrl.Manager) error {
	if err := indexReferences(mgr); err != nil {
		return err
	}
	if err := indexHeldJobs(mgr); err != nil {
		return err
	}
	return indexClaimed(mgr)
}

func indexReferences(mgr ctrl.Manager) error {
	for index, configMap := range map[string]bool{secretIndex: false, configMapIndex: true} {
		err := mgr.GetFieldIndexer().IndexField(context.Background(), &v1alpha1.AtlasStack{}, index, func(o client.Object) (names []string) {
			stack, ok := o.(*v1alpha1.AtlasStack)
			if !ok {
				return nil
			}
			for _, ref := range workloads.References(stack) {
				if ref.ConfigMap == configMap {
					names = append(names, ref.Name)
				}
			}
			return names
		})
		if err != nil {
			return fmt.Errorf("index AtlasStacks by their %s: %w", index, err)
		}
	}
	return nil
}

// stacksOf finds the stacks to reconcile when an object that they refer to appears, changes or goes.
func (r *Reconciler) stacksOf(index string) handler.MapFunc {
	return func(ctx context.Context, object client.Object) []reconcile.Request {
		stacks := &v1alpha1.AtlasStackList{}
		err := r.Client.List(ctx, stacks, client.InNamespace(object.GetNamespace()), client.MatchingFields{index: object.GetName()})
		if err != nil {
			logf.FromContext(ctx).Error(err, "List the stacks that refer to an object", "index", index, "object", client.ObjectKeyFromObject(object))
			return nil
		}
		requests := make([]reconcile.Request, 0, len(stacks.Items))
		for i := range stacks.Items {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{
				Namespace: stacks.Items[i].Namespace, Name: stacks.Items[i].Name,
			}})
		}
		return requests
	}
}

// stackOfReindex is the stack whose index a job of anybody's rebuilds.
func stackOfReindex(_ context.Context, object client.Object) []reconcile.Request {
	job, ok := object.(*v1alpha1.AtlasJob)
	if !ok || job.Spec.Type != v1alpha1.AtlasJobTypeReindex {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: job.Namespace, Name: job.Spec.StackRef.Name}}}
}

// asked is true when somebody asks for something by an annotation.
func asked(e event.UpdateEvent) bool {
	for _, name := range []string{v1alpha1.ReconcileRequestAnnotation, v1alpha1.SkipCleanupAnnotation} {
		if e.ObjectOld.GetAnnotations()[name] != e.ObjectNew.GetAnnotations()[name] {
			return true
		}
	}
	return false
}

// phaseChanged leaves out a job's progress.
func phaseChanged(e event.UpdateEvent) bool {
	before, ok := e.ObjectOld.(*v1alpha1.AtlasJob)
	after, also := e.ObjectNew.(*v1alpha1.AtlasJob)
	return ok && also && before.Status.Phase != after.Status.Phase
}

// changed leaves out what is written again and again without anybody's doing, such as the metrics in the status of a HorizontalPodAutoscaler.
func changed(e event.UpdateEvent) bool {
	return apply.Version(e.ObjectOld) != apply.Version(e.ObjectNew)
}

// CacheOptions keep the manager's memory in proportion to the stacks, not to the cluster: only labelled children, and of
// Secrets and ConfigMaps only their names and versions. No namespaces means all.
func CacheOptions(namespaces ...string) (cache.Options, error) {
	ours, err := labels.NewRequirement(workloads.StackLabel, selection.Exists, nil)
	if err != nil {
		return cache.Options{}, fmt.Errorf("select the objects of stacks: %w", err)
	}
	labelled := cache.ByObject{Label: labels.NewSelector().Add(*ours)}
	everything := cache.ByObject{Label: labels.Everything()}
	options := cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		// Also of kinds that are not in the cluster yet, which can't be named below.
		DefaultLabelSelector: labelled.Label,
		ByObject: map[client.Object]cache.ByObject{
			&v1alpha1.AtlasStack{}:                   everything,
			&v1alpha1.AtlasJob{}:                     everything,
			&v1alpha1.AtlasSchedule{}:                everything,
			&appsv1.Deployment{}:                     labelled,
			&batchv1.Job{}:                           labelled,
			&corev1.Service{}:                        labelled,
			&corev1.ServiceAccount{}:                 labelled,
			&corev1.Secret{}:                         {Label: labels.Everything(), Transform: nameAndVersion},
			&corev1.ConfigMap{}:                      {Label: labels.Everything(), Transform: nameAndVersion},
			&policyv1.PodDisruptionBudget{}:          labelled,
			&autoscalingv2.HorizontalPodAutoscaler{}: labelled,
		},
	}
	for _, namespace := range namespaces {
		if options.DefaultNamespaces == nil {
			options.DefaultNamespaces = map[string]cache.Config{}
		}
		options.DefaultNamespaces[namespace] = cache.Config{}
	}
	return options, nil
}

// nameAndVersion drops everything that the watch on Secrets and ConfigMaps does not need.
func nameAndVersion(o any) (any, error) {
	if object, ok := o.(*metav1.PartialObjectMetadata); ok {
		var owner []metav1.OwnerReference
		if ref := metav1.GetControllerOfNoCopy(object); ref != nil && ref.Kind == "AtlasStack" {
			owner = []metav1.OwnerReference{*ref} // of the ConfigMap with a stack's dashboards
		}
		object.ObjectMeta = metav1.ObjectMeta{
			Name: object.Name, Namespace: object.Namespace, UID: object.UID, ResourceVersion: object.ResourceVersion, OwnerReferences: owner,
		}
	}
	return o, nil
}
