package atlasstack

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// accountField is the part of the spec that ServiceAccounts are made from.
const accountField = "serviceAccountAnnotations"

// applyRole returns the generation of the role's Deployment. An autoscaler goes before the operator sets the number of pods, and comes after it left the
// number alone, so that no two of them ever set it at the same time.
func (r *Reconciler) applyRole(ctx context.Context, p *pass, role workloads.Role) (int64, error) {
	name := metav1.ObjectMeta{Namespace: p.stack.Namespace, Name: workloads.Name(p.stack, role)}
	account := refused(r.ensure(ctx, p, workloads.ServiceAccount(p.stack, role), &corev1.ServiceAccount{ObjectMeta: name}), accountField)
	budget := r.ensure(ctx, p, workloads.PodDisruptionBudget(p.stack, role), &policyv1.PodDisruptionBudget{ObjectMeta: name})
	if err := gravest([]error{account, refused(budget, string(role)+".podDisruptionBudget")}); err != nil {
		return 0, r.asItWas(ctx, p, role, name, err)
	}
	if err := r.removeAutoscalers(ctx, p, role, name); err != nil {
		return 0, err
	}
	generation, err := r.makeDeployment(ctx, p, role, name)
	if err != nil {
		return 0, r.asItWas(ctx, p, role, name, err)
	}
	p.memory.made[role] = p.recipe
	delete(p.memory.found, role)
	return generation, refused(r.applyAutoscaler(ctx, p, role, name), string(role)+".autoscaling")
}

// turnedDown is true when the API server does not take what it was asked for.
func turnedDown(err error) bool {
	_, stalled := apply.AsStalled(err)
	return stalled || denial(err) != nil
}

// asItWas keeps the Deployment as it was where it can't be what the spec asks for, until a person has corrected that. It returns err, and what went wrong beside.
func (r *Reconciler) asItWas(ctx context.Context, p *pass, role workloads.Role, name metav1.ObjectMeta, err error) error {
	before := p.memory.made[role]
	if !turnedDown(err) || before == nil {
		return err
	}
	_, again := r.makeDeployment(ctx, p.earlier(before), role, name)
	if turnedDown(again) {
		return err // which says what to do
	}
	return gravest([]error{err, again})
}

func (r *Reconciler) makeDeployment(ctx context.Context, p *pass, role workloads.Role, name metav1.ObjectMeta) (int64, error) {
	want, err := workloads.Deployment(p.stack, role, p.inputs)
	if template := (*workloads.TemplateError)(nil); errors.As(err, &template) {
		return 0, &apply.Stalled{Reason: v1alpha1.ReasonPodTemplate, Message: template.Error()}
	}
	if err != nil {
		return 0, err
	}
	generation, err := r.applier.ApplyAfter(ctx, p.stack, want, &appsv1.Deployment{ObjectMeta: name}, func(ctx context.Context) error {
		if want.Spec.Replicas != nil {
			return nil
		}
		return r.handOver(ctx, p, role, name)
	})
	if apierrors.IsInvalid(err) && denial(err) == nil && workloads.Component(p.stack, role).PodTemplate != nil {
		return 0, &apply.Stalled{Reason: v1alpha1.ReasonPodTemplate, Message: fmt.Sprintf(
			"with spec.%s.podTemplate the API server refuses the Deployment, correct it: %s", role, causes(err))}
	}
	return generation, refused(err, string(role))
}
