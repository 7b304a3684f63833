package atlasstack

import (
	"context"
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// keepMigrator keeps what a migration leaves behind: its ServiceAccount, and the owner of its Job. It does nothing for a stack that has not migrated yet, whose
// migration makes them.
func (r *Reconciler) keepMigrator(ctx context.Context, p *pass) error {
	if p.stack.Status.Migration == nil && p.stack.Status.Version == "" {
		return nil
	}
	return gravest([]error{r.keepMigrationAccount(ctx, p), r.keepMigrationJob(ctx, p)})
}

func (r *Reconciler) keepMigrationAccount(ctx context.Context, p *pass) error {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: p.stack.Namespace, Name: workloads.Name(p.stack, workloads.RoleMigrate)}}
	return refused(r.ensure(ctx, p, workloads.ServiceAccount(p.stack, workloads.RoleMigrate), account), accountField)
}

// keepMigrationJob gives the Job that is done its owner back, so that it goes with the stack. One that is gone is not made again, which would migrate once more,
// and nothing else of it is put right: what it did is done.
func (r *Reconciler) keepMigrationJob(ctx context.Context, p *pass) error {
	done := p.stack.Status.Migration
	if done == nil || done.Inputs == "" {
		return nil
	}
	job := &batchv1.Job{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: p.stack.Namespace, Name: workloads.MigrationName(p.stack, done.Inputs)}, job)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the migration Job: %w", err)
	}
	if metav1.IsControlledBy(job, p.stack) || !job.DeletionTimestamp.IsZero() {
		return nil
	}
	if own, err := r.applier.Owns(ctx, p.stack, job); !own || err != nil {
		return err
	}
	before := job.DeepCopy()
	// A reference that was edited is still the stack's, but does not control.
	job.OwnerReferences = slices.DeleteFunc(job.OwnerReferences, func(ref metav1.OwnerReference) bool { return ref.UID == p.stack.UID })
	job.OwnerReferences = append(job.OwnerReferences, workloads.Owner(p.stack))
	// It is not applied: that would set the whole Job, whose template can't be changed and may have been another release's.
	err = r.Client.Patch(ctx, job, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}), client.FieldOwner(apply.FieldManager))
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) { // the cache tells of what has changed soon
		return fmt.Errorf("give migration Job %s its owner back: %w", job.Name, err)
	}
	return nil
}
