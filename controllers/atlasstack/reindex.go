package atlasstack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
)

// reindexTTL is how long a finished AtlasJob of the operator's is kept, in seconds. One that failed is made again after it.
const reindexTTL = 60 * 60

// reindex has the index rebuilt where the spec wants it, once every role has rolled out: older workers don't know how.
func (r *Reconciler) reindex(ctx context.Context, p *pass) {
	if p.outdated == nil || p.stack.Spec.Elasticsearch.ReindexPolicy != v1alpha1.ReindexAutomatic || !p.holds(v1alpha1.ConditionWorkloadsReady) {
		return
	}
	err := r.reindexJob(ctx, p.stack, p.outdated)
	if _, serves := apply.AsOutdated(err); !serves {
		p.failed[v1alpha1.ConditionSearchIndexReady] = err
	}
	apply.SetStepResult(&p.stack.Status.Conditions, p.stack.Generation, v1alpha1.ConditionSearchIndexReady, "", err)
}

// reindexJob ensures an AtlasJob of the stack's and says how it is. Its name follows from the index and from the definition that it should have, so
// that however often this runs, there is one.
func (r *Reconciler) reindexJob(ctx context.Context, stack *v1alpha1.AtlasStack, outdated *apply.Outdated) error {
	sum := sha256.Sum256([]byte(outdated.Hash + "/" + outdated.Index))
	job := &v1alpha1.AtlasJob{ObjectMeta: metav1.ObjectMeta{
		Namespace: stack.Namespace, Name: stack.Name + "-reindex-" + hex.EncodeToString(sum[:4]),
	}}
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(job), job)
	if apierrors.IsNotFound(err) {
		ttl := int32(reindexTTL)
		job.Spec.StackRef.Name = stack.Name
		job.Spec.Type, job.Spec.Reindex, job.Spec.TTLSecondsAfterFinished = v1alpha1.AtlasJobTypeReindex, &v1alpha1.ReindexJob{}, &ttl
		if err := controllerutil.SetControllerReference(stack, job, r.Client.Scheme(), controllerutil.WithBlockOwnerDeletion(false)); err != nil {
			return fmt.Errorf("own the AtlasJob %s: %w", job.Name, err)
		}
		err = client.IgnoreAlreadyExists(r.Client.Create(ctx, job, client.FieldOwner(apply.FieldManager)))
	}
	if err != nil {
		return fmt.Errorf("have the index rebuilt by AtlasJob %s: %w", job.Name, err)
	}
	state := &apply.Outdated{
		Reason: v1alpha1.ReasonReindexing, Message: fmt.Sprintf("AtlasJob %s rebuilds index %s; search works", job.Name, outdated.Index),
	}
	switch job.Status.Phase {
	case v1alpha1.AtlasJobFailed, v1alpha1.AtlasJobCancelled:
		state.Reason = v1alpha1.ReasonReindexFailed
		why := "it was cancelled"
		if job.Status.Error != nil {
			why = job.Status.Error.Message
		}
		state.Message = fmt.Sprintf("AtlasJob %s did not rebuild index %s: %s; search works. It is tried again an hour later, or at once when you delete the AtlasJob",
			job.Name, outdated.Index, why)
	default:
		if job.Status.Progress != nil && job.Status.Progress.Summary != "" {
			state.Message += "; items: " + job.Status.Progress.Summary
		}
	}
	return state
}
