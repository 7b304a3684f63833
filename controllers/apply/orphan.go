package apply

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/controllers/workloads"
)

// Orphaned is true for an object that the operator has made for a stack of the owner's name, and that nobody controls: somebody has removed the reference to its
// owner, or has deleted an earlier stack and kept its objects. It takes an object with its field managers, which the cache does not hold.
func Orphaned(live client.Object, owner metav1.Object) bool {
	labels := live.GetLabels()
	return metav1.GetControllerOfNoCopy(live) == nil && live.GetNamespace() == owner.GetNamespace() &&
		labels[workloads.ManagedByLabel] == workloads.ManagedBy && labels[workloads.StackLabel] == owner.GetName() &&
		slices.ContainsFunc(live.GetManagedFields(), func(entry metav1.ManagedFieldsEntry) bool {
			return entry.Manager == FieldManager && entry.Operation == metav1.ManagedFieldsOperationApply
		})
}

// Owns is true for an object that owner controls, and for an orphaned one of its own. live may come from the cache.
func (a *Applier) Owns(ctx context.Context, owner metav1.Object, live client.Object) (bool, error) {
	if metav1.IsControlledBy(live, owner) {
		return true, nil
	}
	if metav1.GetControllerOfNoCopy(live) != nil {
		return false, nil
	}
	// A new one: what is decoded into an object leaves there what it lacks.
	whole, ok := reflect.New(reflect.TypeOf(live).Elem()).Interface().(client.Object)
	if !ok {
		return false, nil
	}
	whole.GetObjectKind().SetGroupVersionKind(live.GetObjectKind().GroupVersionKind())
	err := a.reader.Get(ctx, client.ObjectKeyFromObject(live), whole)
	if apierrors.IsNotFound(err) {
		return false, nil // the cache tells of that soon
	}
	if err != nil {
		return false, fmt.Errorf("read %s %s: %w", kindOf(live), live.GetName(), err)
	}
	return metav1.IsControlledBy(whole, owner) || Orphaned(whole, owner), nil
}
