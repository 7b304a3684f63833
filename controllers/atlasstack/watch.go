package atlasstack

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// secretIndex finds the stacks that use a Secret, whether it exists or not, and without a label on it.
const secretIndex = "secrets"

func indexSecrets(mgr ctrl.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &v1alpha1.AtlasStack{}, secretIndex, func(o client.Object) []string {
		stack, ok := o.(*v1alpha1.AtlasStack)
		if !ok {
			return nil
		}
		names := []string{workloads.DatabaseURL(stack).Name, workloads.SigningKey(stack).Name, workloads.AdminPassword(stack).Name}
		if ref := stack.Spec.Elasticsearch.CredentialsSecretRef; ref != nil {
			names = append(names, ref.Name)
		}
		return names
	})
	if err != nil {
		return fmt.Errorf("index AtlasStacks by their Secrets: %w", err)
	}
	return nil
}

// stacksOfSecret are the stacks to reconcile when a Secret appears, changes or goes.
func (r *Reconciler) stacksOfSecret(ctx context.Context, secret client.Object) []reconcile.Request {
	stacks := &v1alpha1.AtlasStackList{}
	err := r.Client.List(ctx, stacks, client.InNamespace(secret.GetNamespace()), client.MatchingFields{secretIndex: secret.GetName()})
	if err != nil {
		logf.FromContext(ctx).Error(err, "List the stacks that use a Secret", "secret", client.ObjectKeyFromObject(secret))
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

// CacheOptions keep the manager's memory in proportion to the stacks, not to the cluster: only labelled children, and of
// Secrets only their names and versions. No namespaces means all.
func CacheOptions(namespaces ...string) (cache.Options, error) {
	ours, err := labels.NewRequirement(workloads.StackLabel, selection.Exists, nil)
	if err != nil {
		return cache.Options{}, fmt.Errorf("select the objects of stacks: %w", err)
	}
	labelled := cache.ByObject{Label: labels.NewSelector().Add(*ours)}
	options := cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&appsv1.Deployment{}:     labelled,
			&batchv1.Job{}:           labelled,
			&corev1.Service{}:        labelled,
			&corev1.ServiceAccount{}: labelled,
			&corev1.Secret{}:         {Transform: nameAndVersion},
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

// nameAndVersion drops everything that the watch on Secrets does not need.
func nameAndVersion(o any) (any, error) {
	if secret, ok := o.(*metav1.PartialObjectMetadata); ok {
		secret.ObjectMeta = metav1.ObjectMeta{
			Name: secret.Name, Namespace: secret.Namespace, UID: secret.UID, ResourceVersion: secret.ResourceVersion,
		}
	}
	return o, nil
}
