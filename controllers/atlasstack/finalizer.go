package atlasstack

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
)

// heldIndex finds a stack's AtlasJobs whose jobs may not be final.
const heldIndex = "held"

func indexHeldJobs(mgr ctrl.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &v1alpha1.AtlasJob{}, heldIndex, func(o client.Object) []string {
		job, ok := o.(*v1alpha1.AtlasJob)
		if !ok || !controllerutil.ContainsFinalizer(job, v1alpha1.CancelJobFinalizer) {
			return nil
		}
		return []string{job.Spec.StackRef.Name}
	})
	if err != nil {
		return fmt.Errorf("index AtlasJobs that are not finished: %w", err)
	}
	return nil
}

// heldJobs are the AtlasJobs of a stack whose jobs may not be final.
func (r *Reconciler) heldJobs(ctx context.Context, stack types.NamespacedName) ([]v1alpha1.AtlasJob, error) {
	list := &v1alpha1.AtlasJobList{}
	if err := r.Client.List(ctx, list, client.InNamespace(stack.Namespace), client.MatchingFields{heldIndex: stack.Name}); err != nil {
		return nil, fmt.Errorf("list AtlasJobs: %w", err)
	}
	return list.Items, nil
}

// drops is true for a stack whose deletion deletes something outside the cluster.
func drops(stack *v1alpha1.AtlasStack) bool {
	return stack.Spec.Kafka.DeletionPolicy == v1alpha1.DeletionDelete || stack.Spec.Elasticsearch.DeletionPolicy == v1alpha1.DeletionDelete
}

// hold puts the finalizer on a stack that needs it, and only while it does: where it isn't, deleting a stack needs no operator.
func (r *Reconciler) hold(ctx context.Context, stack *v1alpha1.AtlasStack) error {
	needed := drops(stack)
	if !needed {
		jobs, err := r.heldJobs(ctx, client.ObjectKeyFromObject(stack))
		if err != nil {
			return err
		}
		needed = len(jobs) > 0
	}
	switch has := controllerutil.ContainsFinalizer(stack, v1alpha1.CleanupFinalizer); {
	case needed && !has:
		return r.patchFinalizer(ctx, stack, controllerutil.AddFinalizer)
	case has && !needed:
		return r.patchFinalizer(ctx, stack, controllerutil.RemoveFinalizer)
	}
	return nil
}

// patchFinalizer changes nothing but metadata. The resource version goes along: the list is replaced as a whole, and others have finalizers too.
func (r *Reconciler) patchFinalizer(ctx context.Context, stack *v1alpha1.AtlasStack, change func(client.Object, string) bool) error {
	changed := stack.DeepCopy()
	change(changed, v1alpha1.CleanupFinalizer)
	patch := client.MergeFromWithOptions(stack.DeepCopy(), client.MergeFromWithOptimisticLock{})
	err := r.Client.Patch(ctx, changed, patch, client.FieldOwner(apply.FieldManager))
	if apierrors.IsConflict(err) {
		r.memory.of(stack).reread = true
		return &apply.Waiting{Reason: v1alpha1.ReasonProgressing, Message: "the stack has changed meanwhile", After: recordedSoon}
	}
	if err != nil {
		return fmt.Errorf("patch the finalizers: %w", err)
	}
	stack.ObjectMeta = changed.ObjectMeta
	r.written.Store(client.ObjectKeyFromObject(stack), stack.ResourceVersion)
	return nil
}

// stackOfHeld is the stack that an AtlasJob holds, or doesn't any more, unless the stack's finalizer is as it should be.
func (r *Reconciler) stackOfHeld(ctx context.Context, object client.Object) []reconcile.Request {
	job, ok := object.(*v1alpha1.AtlasJob)
	if !ok {
		return nil
	}
	stack := &v1alpha1.AtlasStack{}
	stack.Namespace, stack.Name = job.Namespace, job.Spec.StackRef.Name
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(stack), stack)
	if apierrors.IsNotFound(err) {
		return nil
	}
	jobs, listErr := r.heldJobs(ctx, client.ObjectKeyFromObject(stack))
	if err != nil || listErr != nil {
		logf.FromContext(ctx).Error(err, "Look for the stack of an AtlasJob", "job", client.ObjectKeyFromObject(job))
	} else if stack.DeletionTimestamp.IsZero() && controllerutil.ContainsFinalizer(stack, v1alpha1.CleanupFinalizer) == (drops(stack) || len(jobs) > 0) {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(stack)}}
}

// heldChanged is true when an AtlasJob begins or ends to hold its stack.
func heldChanged(e event.UpdateEvent) bool {
	return controllerutil.ContainsFinalizer(e.ObjectOld, v1alpha1.CancelJobFinalizer) != controllerutil.ContainsFinalizer(e.ObjectNew, v1alpha1.CancelJobFinalizer)
}
