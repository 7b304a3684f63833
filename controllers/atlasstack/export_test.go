package atlasstack

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// Direct readies a reconciler that no manager runs. Its client reads from the API server; the optional kinds that the API server has are there.
func (r *Reconciler) Direct() *Reconciler {
	r.kinds = &kinds{checked: true, present: map[schema.GroupVersionKind]toolscache.ResourceEventHandlerRegistration{}}
	for _, kind := range workloads.OptionalKinds() {
		if _, err := r.Client.RESTMapper().RESTMapping(kind.GroupKind(), kind.Version); err == nil {
			r.kinds.present[kind.GroupVersionKind] = synced{}
		}
	}
	r.setDefaults(r.Client)
	return r
}

type synced struct {
	toolscache.ResourceEventHandlerRegistration
}

func (synced) HasSynced() bool { return true }

// Indexed is what the manager's cache would have of an object under an index.
func Indexed(index string, object client.Object) []string {
	switch o := object.(type) {
	case *v1alpha1.AtlasStack:
		if index == claimIndex {
			return allClaims(o)
		}
	case *v1alpha1.AtlasJob:
		if index == heldIndex && controllerutil.ContainsFinalizer(o, v1alpha1.CancelJobFinalizer) {
			return []string{o.Spec.StackRef.Name}
		}
	}
	return nil
}
