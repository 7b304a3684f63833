package apply

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Barred is true when the operator may not even read an object of its own kinds any more: its Role in the namespace is gone, as when the namespace is being deleted.
// A policy that refuses some change does not refuse this. What is read is put into the empty object.
func Barred(ctx context.Context, reader client.Reader, name types.NamespacedName, empty client.Object) bool {
	return apierrors.IsForbidden(reader.Get(ctx, name, empty))
}

// Reread reads an object as it is now into an empty one. Where the right to read is gone with the namespace's Role, the answer to a patch that changes nothing shows it: that
// right the operator keeps.
func Reread(ctx context.Context, reader client.Reader, c client.Client, name types.NamespacedName, empty client.Object) error {
	err := reader.Get(ctx, name, empty)
	if !apierrors.IsForbidden(err) {
		return err //nolint:wrapcheck // as Get
	}
	empty.SetNamespace(name.Namespace)
	empty.SetName(name.Name)
	if err := c.Patch(ctx, empty, client.RawPatch(types.MergePatchType, []byte("{}")), client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("read by a patch that changes nothing: %w", err)
	}
	return nil
}
