package atlasstack

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// rolloutPoll is a safety net for messages of pods; the watch on Deployments notices progress.
const rolloutPoll = 5 * time.Second

// dependencies are the conditions that Ready sums up, in the order in which they are reported.
func dependencies() []string {
	return []string{
		v1alpha1.ConditionReferencesResolved, v1alpha1.ConditionMigrationsApplied, v1alpha1.ConditionTopicReady,
		v1alpha1.ConditionSearchIndexReady, v1alpha1.ConditionWorkloadsReady, v1alpha1.ConditionExposureReady,
	}
}

// observe counts the pods and sets WorkloadsReady, also when the workloads were not applied: what runs goes on running.
func (r *Reconciler) observe(ctx context.Context, p *pass) {
	const kind = v1alpha1.ConditionWorkloadsReady
	status := &p.stack.Status
	if p.current {
		status.Endpoint = workloads.Endpoint(p.stack)
	}
	err := r.observeDeployments(ctx, p)
	if skipped := p.failed[kind]; skipped != nil {
		waiting, isWaiting := apply.AsWaiting(skipped)
		if !isWaiting || waiting.Reason != v1alpha1.ReasonWaiting {
			return // applying them failed, which run has reported
		}
		if !p.holds(kind) {
			apply.SetStepResult(&status.Conditions, p.stack.Generation, kind, "", skipped)
			return
		}
		// This generation had rolled out before an earlier step lost its footing: report the pods as they are.
	}
	if err == nil && p.stack.Spec.Hibernate && !p.holds(kind) {
		err = r.fallAsleep(ctx, p)
	}
	if err != nil && p.failed[kind] == nil {
		p.failed[kind] = err
	}
	if err == nil && p.current && !p.stack.Spec.Hibernate {
		status.Version = workloads.Version(&p.stack.Spec)
	}
	apply.SetStepResult(&status.Conditions, p.stack.Generation, kind, p.rolledOutText(), err)
}

// observeDeployments fills status.components and says which Deployment is not ready and why.
func (r *Reconciler) observeDeployments(ctx context.Context, p *pass) error {
	components := make([]v1alpha1.ComponentStatus, 0, len(workloads.Roles()))
	var first error
	for _, role := range workloads.Roles() {
		name := client.ObjectKey{Namespace: p.stack.Namespace, Name: workloads.Name(p.stack, role)}
		deployment := &appsv1.Deployment{}
		if err := r.Client.Get(ctx, name, deployment); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("read Deployment %s: %w", name.Name, err)
		}
		component := v1alpha1.ComponentStatus{Name: string(role), Ready: readyOfRevision(deployment, p.applied[role])}
		if replicas := workloads.Replicas(p.stack, role); replicas != nil {
			component.Desired = *replicas
		} else if deployment.Spec.Replicas != nil {
			component.Desired = *deployment.Spec.Replicas
		}
		components = append(components, component)
		if first != nil || rolledOut(deployment, p.applied[role]) {
			continue
		}
		if p.scales(role, deployment) {
			p.scaling = append(p.scaling, fmt.Sprintf("Deployment %s scales, %d of %d pods are ready", name.Name, component.Ready, component.Desired))
			continue
		}
		why, err := r.explainDeployment(ctx, p, role, deployment)
		if err != nil {
			return err
		}
		reason, message := v1alpha1.ReasonProgressing, fmt.Sprintf("Deployment %s has %d of %d pods ready%s", name.Name, component.Ready, component.Desired, why)
		if replicaFailure(deployment) != "" {
			reason = v1alpha1.ReasonRefused
		} else if component.Ready >= component.Desired {
			message = fmt.Sprintf("Deployment %s is ending its old pods", name.Name)
		}
		first = &apply.Waiting{Reason: reason, After: rolloutPoll, Message: message}
	}
	p.stack.Status.Components = components
	return first
}

// readyOfRevision is how many pods of the current revision are ready at least. A Deployment does not tell which of its pods
// are, so all the old ones count first.
func readyOfRevision(d *appsv1.Deployment, applied int64) int32 {
	if !observed(d, applied) {
		return 0
	}
	s := d.Status
	return max(0, s.ReadyReplicas-(s.Replicas-s.UpdatedReplicas))
}

// observed is true when the Deployment controller has seen the applied generation. The cache may still hold the Deployment as
// it was before it was applied.
func observed(d *appsv1.Deployment, applied int64) bool {
	return d.Generation >= applied && d.Generation > 0 && d.Status.ObservedGeneration >= d.Generation
}

// rolledOut is true when every pod is of the applied generation and ready.
func rolledOut(d *appsv1.Deployment, applied int64) bool {
	desired := int32(1)
	if d.Spec.Replicas != nil {
		desired = *d.Spec.Replicas
	}
	s := d.Status
	return observed(d, applied) && s.UpdatedReplicas == desired && s.Replicas == desired && s.AvailableReplicas == desired
}

func (r *Reconciler) explainDeployment(ctx context.Context, p *pass, role workloads.Role, d *appsv1.Deployment) (string, error) {
	if failure := replicaFailure(d); failure != "" {
		return ": no more pods can be made: " + p.redact(explainReplicaFailure(role, failure)), nil
	}
	why, err := r.explainPods(ctx, p, client.MatchingLabels{workloads.ComponentLabel: string(role)})
	if err != nil || why == "" {
		return "", err
	}
	return ": " + why, nil
}

// summarize derives Ready, Reconciling and Stalled from the other conditions. Nothing else sets them.
func summarize(p *pass) {
	status, generation := &p.stack.Status, p.stack.Generation
	status.ObservedGeneration = generation

	ready, reason, message := metav1.ConditionTrue, v1alpha1.ReasonReady, fmt.Sprintf("version %s is ready", status.Version)
	if p.stack.Spec.Hibernate {
		reason, message = v1alpha1.ReasonHibernated, "no role has pods, as spec.hibernate asks: set it to false to have them back"
	}
	for _, kind := range dependencies() {
		c := meta.FindStatusCondition(status.Conditions, kind)
		if asleep(c) {
			continue
		}
		if c != nil && c.ObservedGeneration == generation && v1alpha1.Serves(c.Reason) {
			message += "; " + kind + ": " + c.Message
			continue
		}
		if c == nil || (c.Status == metav1.ConditionTrue && c.ObservedGeneration == generation) {
			continue
		}
		ready, reason, message = c.Status, c.Reason, kind+": "+c.Message
		break
	}
	if ready == metav1.ConditionTrue && len(p.failed) > 0 {
		ready, reason, message = metav1.ConditionFalse, v1alpha1.ReasonProgressing, "working towards the spec"
	}
	kind, stalled := p.stalled()
	if stalled != nil { // what waits for a person comes before what waits for that
		ready, reason, message = metav1.ConditionFalse, stalled.Reason, kind+": "+stalled.Message
	}
	apply.SetCondition(&status.Conditions, generation, v1alpha1.ConditionReady, ready, reason, message)

	meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionStalled)
	if stalled != nil {
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionReconciling)
		apply.SetCondition(&status.Conditions, generation, v1alpha1.ConditionStalled, metav1.ConditionTrue, stalled.Reason, message)
		return
	}
	if ready == metav1.ConditionTrue {
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionReconciling)
		return
	}
	apply.SetCondition(&status.Conditions, generation, v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonProgressing, message)
}

// stalled is the first condition that a person has to do something about, and why.
func (p *pass) stalled() (string, *apply.Stalled) {
	for _, kind := range dependencies() {
		if stalled, ok := apply.AsStalled(p.failed[kind]); ok {
			return kind, stalled
		}
	}
	return "", nil
}

// summarizePaused says that nothing is looked at. The other conditions keep the generation that they speak of.
func summarizePaused(stack *v1alpha1.AtlasStack) {
	status := &stack.Status
	status.ObservedGeneration = stack.Generation
	meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionReconciling)
	meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionStalled)
	apply.SetCondition(&status.Conditions, stack.Generation, v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonPaused,
		"spec.paused is true: nothing is checked or changed until it is removed")
}

// tell records an event for each dependency, and for Ready, whose status or reason changed.
func (r *Reconciler) tell(before, after *v1alpha1.AtlasStack) {
	for _, kind := range append(dependencies(), v1alpha1.ConditionReady) {
		now := meta.FindStatusCondition(after.Status.Conditions, kind)
		was := meta.FindStatusCondition(before.Status.Conditions, kind)
		// That a step waits for another says nothing that the other's event does not.
		if now == nil || now.Reason == v1alpha1.ReasonWaiting || asleep(now) || (was != nil && was.Status == now.Status && was.Reason == now.Reason) {
			continue
		}
		severity := corev1.EventTypeNormal
		switch {
		case now.Reason == v1alpha1.ReasonProgressing || now.Reason == v1alpha1.ReasonPaused || now.Reason == v1alpha1.ReasonTerminating:
		case now.Status != metav1.ConditionTrue:
			severity = corev1.EventTypeWarning
		}
		r.Recorder.Eventf(after, nil, severity, now.Reason, kind, "%s: %s", kind, now.Message)
	}
}
