package atlasschedule

import (
	"context"
	"fmt"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
)

// hibernates tells whether the stack of the schedule's jobs does: they could not run, and would pile up until it wakes. One that does not exist does not.
func (r *Reconciler) hibernates(ctx context.Context, schedule *platformv1alpha1.AtlasSchedule) (bool, error) {
	stack := &platformv1alpha1.AtlasStack{}
	err := r.Get(ctx, client.ObjectKey{Namespace: schedule.Namespace, Name: schedule.Spec.JobTemplate.Spec.StackRef.Name}, stack)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("read the AtlasStack: %w", err)
	}
	return err == nil && stack.Spec.Hibernate, nil
}

// fallsAsleepOrWakes lets through what hibernates looks at.
var fallsAsleepOrWakes = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, ok := e.ObjectOld.(*platformv1alpha1.AtlasStack)
	after, isStack := e.ObjectNew.(*platformv1alpha1.AtlasStack)
	return ok && isStack && before.Spec.Hibernate != after.Spec.Hibernate
}}

// schedulesOf lists the schedules whose jobs a stack runs.
func (r *Reconciler) schedulesOf(ctx context.Context, stack client.Object) []reconcile.Request {
	var all platformv1alpha1.AtlasScheduleList
	if err := r.List(ctx, &all, client.InNamespace(stack.GetNamespace())); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Can't list the AtlasSchedules of a stack")
		return nil
	}
	var requests []reconcile.Request
	for i := range all.Items {
		if all.Items[i].Spec.JobTemplate.Spec.StackRef.Name == stack.GetName() {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
		}
	}
	return requests
}
