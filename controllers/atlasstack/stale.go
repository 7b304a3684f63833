package atlasstack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// A container reads a Secret when it starts. While a role is kept as it was because a Secret holds something that does not work, a pod that starts gets that;
// and when the Secret is put right again the role's template is the one that it has, so that nothing would replace such a pod. So the Deployment is marked, for
// an operator that is restarted meanwhile too.

const (
	staleLabel            = "platform.atlas.dev/stale" // an annotation would count as a generation of the Deployment
	restartedAtAnnotation = "platform.atlas.dev/restartedAt"
	restartOwner          = "atlas-operator-restart" // as kubectl rollout restart, a manager of its own
)

// mayBeStale tells whether a pod of a role that starts now may hold something else than the role's template was made for: another value, or an invalid one. One
// that is missing, or that could not be read, lets no pod start with it. made are the contents that the template was made for, nil where only their hash is known.
func (r *Reconciler) mayBeStale(p *pass, live *appsv1.Deployment, role workloads.Role, made workloads.Inputs) (bool, error) {
	for _, wrong := range p.problems {
		if wrong.reason == v1alpha1.ReasonSecretInvalid && wrong.input.UsedBy(role) {
			return true, nil
		}
	}
	if made == nil && p.failed[v1alpha1.ConditionReferencesResolved] == nil {
		same, err := madeFor(p, live, role)
		return !same, err
	}
	for input, was := range made {
		if now, there := p.inputs[input]; there && input.UsedBy(role) && !bytes.Equal(now, was) {
			return true, nil
		}
	}
	return false, nil
}

// markStale marks the Deployment of a role whose pods may be stale.
func (r *Reconciler) markStale(ctx context.Context, p *pass, role workloads.Role, made workloads.Inputs) error {
	if p.stack.Spec.Hibernate {
		return nil // no pod starts
	}
	live := &appsv1.Deployment{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: p.stack.Namespace, Name: workloads.Name(p.stack, role)}, live)
	if apierrors.IsNotFound(err) || (err == nil && live.Labels[staleLabel] != "") {
		return nil
	}
	stale := false
	if err == nil {
		stale, err = r.mayBeStale(p, live, role, made)
	}
	if err == nil && stale {
		err = r.patchRestart(ctx, live, map[string]any{"metadata": map[string]any{"labels": map[string]any{staleLabel: "true"}}})
	}
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("mark the role %s as stale: %w", role, err)
	}
	return nil
}

// restartStale replaces the pods of a role that may be stale, if its template, as it is about to be, does not do that. It returns the generation that the
// Deployment has then, 0 where nothing was done.
func (r *Reconciler) restartStale(ctx context.Context, p *pass, role workloads.Role) (int64, error) {
	live := &appsv1.Deployment{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: p.stack.Namespace, Name: workloads.Name(p.stack, role)}, live)
	if apierrors.IsNotFound(err) || (err == nil && live.Labels[staleLabel] == "") {
		return 0, nil
	}
	same := false
	if err == nil {
		same, err = madeFor(p, live, role)
	}
	if err == nil {
		// With the version that was read, so that a cache that has not seen this yet can't do it twice.
		patch := map[string]any{"metadata": map[string]any{"resourceVersion": live.ResourceVersion, "labels": map[string]any{staleLabel: nil}}}
		if same {
			logf.FromContext(ctx).Info("pods are replaced that may have started with what a Secret held meanwhile", "role", role)
			now := time.Now().UTC().Format(time.RFC3339)
			patch["spec"] = map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": map[string]any{restartedAtAnnotation: now}}}}
		}
		err = r.patchRestart(ctx, live, patch)
	}
	switch {
	case apierrors.IsNotFound(err):
		return 0, nil
	case apierrors.IsConflict(err):
		return 0, &apply.Waiting{Reason: v1alpha1.ReasonProgressing, After: firstRetry, Message: fmt.Sprintf("Deployment %s changed just now", live.Name)}
	case err != nil:
		return 0, fmt.Errorf("restart the role %s: %w", role, err)
	}
	return live.Generation, nil
}

func (r *Reconciler) patchRestart(ctx context.Context, live *appsv1.Deployment, patch map[string]any) error {
	body, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encode a patch: %w", err)
	}
	return r.Client.Patch(ctx, live, client.RawPatch(types.MergePatchType, body), client.FieldOwner(restartOwner))
}

// madeFor tells whether the template of a role's Deployment was made for the present spec and contents.
func madeFor(p *pass, live *appsv1.Deployment, role workloads.Role) (bool, error) {
	hash, err := workloads.ConfigHash(p.stack, role, p.inputs)
	return err == nil && live.Spec.Template.Annotations[workloads.ConfigHashAnnotation] == hash, err
}
