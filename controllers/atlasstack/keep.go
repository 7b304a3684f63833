package atlasstack

import (
	"context"
	"errors"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// keepWorkloads keeps each role, and what the migration left, as it was, while something has to be done before it may be as the spec is: what somebody edits or deletes is put right, and no pod
// gets the new template. It says what becomes of the roles, "" where there are none yet.
func (r *Reconciler) keepWorkloads(ctx context.Context, p *pass) (string, error) {
	p.applied = map[workloads.Role]int64{}
	failures := []error{r.keepMigrator(ctx, p)}
	var missing []string
	for _, role := range workloads.Roles() {
		known, err := r.keepRole(ctx, p, role)
		failures = append(failures, err)
		if err == nil && !known {
			missing = append(missing, "Deployment "+workloads.Name(p.stack, role))
		}
	}
	switch {
	case len(missing) == 0:
		return "; until then every role is kept as it was", gravest(failures)
	case p.stack.Status.Version != "":
		return fmt.Sprintf("; until then there is no %s: the operator has restarted since and can't make what it was", strings.Join(missing, " and no ")), gravest(failures)
	}
	return "", gravest(failures)
}

// keepRole keeps a role as it was applied last or, of which a restarted operator knows nothing, as that found it. It reports whether there is something to keep.
func (r *Reconciler) keepRole(ctx context.Context, p *pass, role workloads.Role) (known bool, err error) {
	if from := p.memory.made[role]; from != nil {
		marked := r.markStale(ctx, p, role, from.inputs)
		p.applied[role], err = r.applyRole(ctx, p.earlier(from), role)
		return true, errors.Join(err, marked)
	}
	name := metav1.ObjectMeta{Namespace: p.stack.Namespace, Name: workloads.Name(p.stack, role)}
	if p.stack.Spec.Hibernate {
		delete(p.memory.found, role)
		if err := r.removeAutoscalers(ctx, p, role, name); err != nil {
			return false, err
		}
		return true, r.stop(ctx, p, name)
	}
	if p.memory.found[role] == nil {
		if p.memory.found[role], err = r.find(ctx, p, name); err != nil || p.memory.found[role] == nil {
			return false, err
		}
	}
	if err := r.markStale(ctx, p, role, nil); err != nil {
		return false, err
	}
	return r.applyFound(ctx, p, role)
}

// earlier is the pass that makes a role's objects as they were made last. Only pods are not kept against the spec's will to have none.
func (p *pass) earlier(from *recipe) *pass {
	if p.stack.Spec.Hibernate && !from.spec.Hibernate {
		from = &recipe{spec: from.spec, inputs: from.inputs}
		from.spec.Hibernate = true
	}
	return &pass{
		stack:  &v1alpha1.AtlasStack{ObjectMeta: p.stack.ObjectMeta, Spec: from.spec},
		inputs: from.inputs, memory: p.memory, recipe: from,
	}
}
