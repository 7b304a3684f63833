package atlasstack

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// newReplicaSetAvailable is the reason of a Deployment's condition Progressing from when its newest revision has rolled out until there is another one,
// however often it is scaled meanwhile.
const newReplicaSetAvailable = "NewReplicaSetAvailable"

// scales is true for a Deployment that has rolled out and whose autoscaler asked for another number of pods since. As long as the least number is available,
// the role is as the spec asks, and pods that come and go with the load are no news for those who wait for Ready.
func (p *pass) scales(role workloads.Role, d *appsv1.Deployment) bool {
	if workloads.AutoscalerOf(p.stack, role) == workloads.NoAutoscaler || !observed(d, p.applied[role]) || d.Spec.Replicas == nil {
		return false
	}
	s := d.Status
	if s.UpdatedReplicas != s.Replicas || s.AvailableReplicas < min(workloads.LeastReplicas(p.stack, role), *d.Spec.Replicas) {
		return false
	}
	for _, c := range s.Conditions {
		if c.Type == appsv1.DeploymentProgressing {
			return c.Reason == newReplicaSetAvailable
		}
	}
	return false
}

// rolledOutText is what WorkloadsReady says when it is True.
func (p *pass) rolledOutText() string {
	if p.stack.Spec.Hibernate {
		return "no Deployment has pods, as spec.hibernate asks"
	}
	return strings.Join(append([]string{"every Deployment has rolled out and is ready"}, p.scaling...), "; ")
}

// hibernate applies the Deployments, without pods. Where they can't be made as the spec is, because a Secret is missing, those that there are lose their pods all
// the same.
func (r *Reconciler) hibernate(ctx context.Context, p *pass) (string, error) {
	if p.failed[v1alpha1.ConditionReferencesResolved] == nil {
		return r.applyWorkloads(ctx, p)
	}
	text, err := r.keepWorkloads(ctx, p)
	if err != nil {
		return "", err
	}
	return "", &apply.Waiting{Reason: v1alpha1.ReasonWaiting, Message: "the pods are stopped; waiting for " + v1alpha1.ConditionReferencesResolved + text}
}

// stop takes a Deployment's pods away and changes nothing else of it.
func (r *Reconciler) stop(ctx context.Context, p *pass, name metav1.ObjectMeta) error {
	d := &appsv1.Deployment{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: name.Namespace, Name: name.Name}, d)
	if apierrors.IsNotFound(err) || (err == nil && (!metav1.IsControlledBy(d, p.stack) || (d.Spec.Replicas != nil && *d.Spec.Replicas == 0))) {
		return nil
	}
	if err == nil {
		err = r.Client.Apply(ctx, appsv1ac.Deployment(name.Name, name.Namespace).WithUID(d.UID).WithSpec(appsv1ac.DeploymentSpec().WithReplicas(0)),
			client.FieldOwner(handOverManager), client.ForceOwnership)
	}
	if err != nil {
		return fmt.Errorf("stop the pods of Deployment %s: %w", name.Name, err)
	}
	return nil
}

// sleep says that what a stack without pods does not need is not looked at.
func (p *pass) sleep() {
	for _, kind := range []string{v1alpha1.ConditionMigrationsApplied, v1alpha1.ConditionTopicReady, v1alpha1.ConditionSearchIndexReady} {
		if p.failed[kind] == nil { // another stack's topic or index is
			apply.SetCondition(&p.stack.Status.Conditions, p.stack.Generation, kind, metav1.ConditionUnknown, v1alpha1.ReasonHibernated,
				"it is not looked at while spec.hibernate is true")
		}
	}
}

// asleep is true for what sleep has set.
func asleep(c *metav1.Condition) bool {
	return c != nil && c.Status == metav1.ConditionUnknown && c.Reason == v1alpha1.ReasonHibernated
}
