package atlasstack

import (
	"context"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// unseenPatience is for pods that the operator may not list any more: the time that they have to end, and some.
const unseenPatience = 45 * time.Second

// barred is true for an error that comes of the operator's Role, which was deleted with the namespace, before the stack.
func (r *Reconciler) barred(ctx context.Context, e *ending, err error) bool {
	return apierrors.IsForbidden(err) && apply.Barred(ctx, r.Reader, client.ObjectKeyFromObject(e.stack), &v1alpha1.AtlasStack{})
}

// awaitUnseen waits for the end of pods that only Kubernetes can delete and see now. The cache goes on to tell of Deployments as long as its watch lasts.
func (r *Reconciler) awaitUnseen(ctx context.Context, e *ending) {
	e.waiting = nil
	for _, role := range workloads.Roles() {
		live := &appsv1.Deployment{}
		name := client.ObjectKey{Namespace: e.stack.Namespace, Name: workloads.Name(e.stack, role)}
		if r.Client.Get(ctx, name, live) == nil && metav1.IsControlledBy(live, e.stack) && live.DeletionTimestamp.IsZero() {
			e.waiting = append(e.waiting, "Deployment "+live.Name+" is to be deleted by somebody else: the operator has no right to do it any more")
		}
	}
	if e.age < unseenPatience {
		e.waiting = append(e.waiting, "pods are ending, which the operator has no right to see any more")
	}
}
