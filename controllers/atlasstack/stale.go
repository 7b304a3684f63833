package atlasstack

import (
	"bytes"
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// A container reads a Secret when it starts. While a role is kept as it was because a Secret holds something that does not work, a pod that starts gets that;
// and when the Secret is put right again the role's template is the one that it has, so that nothing would replace such a pod.

const (
	restartedAtAnnotation = "platform.atlas.dev/restartedAt"
	restartOwner          = "atlas-operator-restart" // as kubectl rollout restart, a manager of its own
)

// noteStale remembers that a role's pods may hold something else than its template was made for: with one of the contents that were found, or with one that is
// invalid. One that is missing, or that could not be read, lets no pod start with it.
func (p *pass) noteStale(role workloads.Role, made workloads.Inputs) {
	if waiting, ok := apply.AsWaiting(p.failed[v1alpha1.ConditionReferencesResolved]); ok && waiting.Reason == v1alpha1.ReasonSecretInvalid {
		p.memory.stale[role] = true
	}
	for input, value := range p.inputs {
		if !bytes.Equal(value, made[input]) {
			p.memory.stale[role] = true
		}
	}
}

// noteFoundStale does so for a role of whose template a restarted operator knows only the hash of all contents, with which nothing compares while one is missing.
func (r *Reconciler) noteFoundStale(ctx context.Context, p *pass, role workloads.Role) {
	if p.failed[v1alpha1.ConditionReferencesResolved] != nil {
		p.noteStale(role, p.inputs)
		return
	}
	if _, made, err := r.madeFor(ctx, p, role); err == nil && !made {
		p.memory.stale[role] = true
	}
}

// restartStale replaces the pods of a role that may be stale, if its template, as it is now, does not do that.
func (r *Reconciler) restartStale(ctx context.Context, p *pass, role workloads.Role) error {
	if !p.memory.stale[role] {
		return nil
	}
	live, made, err := r.madeFor(ctx, p, role)
	if err == nil && made {
		logf.FromContext(ctx).Info("pods are replaced that may have started with what a Secret held meanwhile", "role", role)
		patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{%q:%q}}}}}`, restartedAtAnnotation, time.Now().UTC().Format(time.RFC3339))
		err = r.Client.Patch(ctx, live, client.RawPatch("application/merge-patch+json", []byte(patch)), client.FieldOwner(restartOwner))
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("restart the role %s: %w", role, err)
	}
	delete(p.memory.stale, role)
	return nil
}

// madeFor returns the role's Deployment, and whether its template was made for the present spec and contents.
func (r *Reconciler) madeFor(ctx context.Context, p *pass, role workloads.Role) (*appsv1.Deployment, bool, error) {
	live := &appsv1.Deployment{}
	if err := r.Client.Get(ctx, client.ObjectKey{Namespace: p.stack.Namespace, Name: workloads.Name(p.stack, role)}, live); err != nil {
		return nil, false, err
	}
	hash, err := workloads.ConfigHash(p.stack, role, p.inputs)
	return live, err == nil && live.Spec.Template.Annotations[workloads.ConfigHashAnnotation] == hash, err
}
