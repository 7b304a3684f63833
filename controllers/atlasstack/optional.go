package atlasstack

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// ensureOptional applies a child of a kind that may not be in the cluster, or removes it where want is nil. field is the part of the spec that asks for it.
func (r *Reconciler) ensureOptional(
	ctx context.Context, p *pass, kind workloads.OptionalKind, field, name string, want *unstructured.Unstructured,
) error {
	present, synced, err := r.kinds.has(ctx, kind)
	switch {
	case err != nil:
		return err
	case !present && want == nil, present && !synced && want == nil:
		return nil // once they are known, the objects that there are bring their stacks here again
	case !present:
		return missing(kind, field)
	case !synced:
		return &apply.Waiting{Reason: v1alpha1.ReasonProgressing, After: rolloutPoll, Message: fmt.Sprintf(
			"spec.%s: the operator is about to read the objects of the kind %s; if this stays, it is not allowed to list and watch them: give it the permissions of its release",
			field, kind.Kind)}
	}
	live := cached(kind)
	live.SetNamespace(p.stack.Namespace)
	live.SetName(name)
	if want == nil {
		_, err = r.applier.Remove(ctx, p.stack, live)
	} else {
		_, err = r.applier.Apply(ctx, p.stack, client.ApplyConfigurationFromUnstructured(want), live)
	}
	if err == nil || !gone(err) {
		return err
	}
	// The kind may have been removed just now.
	if err := r.kinds.refresh(ctx); err != nil {
		return err
	}
	if present, _, lookErr := r.kinds.has(ctx, kind); lookErr == nil && !present {
		if want == nil {
			return nil
		}
		return missing(kind, field)
	}
	return err
}

// gone is true for the errors with which the API server and the mapper answer for a kind that is being removed or is.
func gone(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) || meta.IsNoMatchError(err)
}

func missing(kind workloads.OptionalKind, field string) error {
	return &apply.Waiting{Reason: v1alpha1.ReasonCRDMissing, Message: fmt.Sprintf(
		"spec.%s needs the kind %s of %s, which the cluster does not have: install %s, which is noticed within a minute, or remove the field",
		field, kind.Kind, kind.GroupVersion(), kind.Project)}
}
