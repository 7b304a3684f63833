package atlasstack

import (
	"context"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// handOverManager holds a Deployment's replicas from when the operator lets go of them until the autoscaler first sets them.
const handOverManager = apply.FieldManager + "-handover"

// removeAutoscalers removes those that the spec does not ask for (any more).
func (r *Reconciler) removeAutoscalers(ctx context.Context, p *pass, role workloads.Role, name metav1.ObjectMeta) error {
	wanted := workloads.AutoscalerOf(p.stack, role)
	if wanted != workloads.HorizontalAutoscaler {
		if err := r.ensure(ctx, p, nil, &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: name}); err != nil {
			return err
		}
	}
	if wanted == workloads.KEDAAutoscaler {
		return nil
	}
	for _, kind := range []workloads.OptionalKind{workloads.ScaledObjectKind(), workloads.TriggerAuthenticationKind()} {
		if err := r.ensureOptional(ctx, p, kind, "", name.Name, nil); err != nil {
			return err
		}
	}
	return nil
}

// applyAutoscaler applies the one that the spec asks for.
func (r *Reconciler) applyAutoscaler(ctx context.Context, p *pass, role workloads.Role, name metav1.ObjectMeta) error {
	switch workloads.AutoscalerOf(p.stack, role) {
	case workloads.HorizontalAutoscaler:
		want, err := workloads.HorizontalPodAutoscaler(p.stack, role)
		if err != nil {
			return err
		}
		return r.ensure(ctx, p, want, &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: name})
	case workloads.KEDAAutoscaler:
		field := string(role) + ".autoscaling.lag.source"
		login := workloads.TriggerAuthentication(p.stack, role, p.inputs)
		if err := r.ensureOptional(ctx, p, workloads.TriggerAuthenticationKind(), field, name.Name, login); err != nil {
			return err
		}
		want, err := workloads.ScaledObject(p.stack, role, p.inputs)
		if err != nil {
			return err
		}
		return r.ensureOptional(ctx, p, workloads.ScaledObjectKind(), field, name.Name, want)
	case workloads.NoAutoscaler:
	}
	return nil
}

// handOver makes another field manager own the Deployment's replicas, with the number that they have. Server-side apply sets a field that its only owner no
// longer sends back to its default, and the operator is about to send none: 20 pods would become 1 for a moment. A number of 0 that the operator has set, by
// spec.hibernate for example, becomes the least number, because autoscalers leave a Deployment without pods alone. One that somebody else has set stays.
func (r *Reconciler) handOver(ctx context.Context, p *pass, role workloads.Role, name metav1.ObjectMeta) error {
	// A live read: the cache may be behind, and has no field managers.
	live := &appsv1.Deployment{}
	err := r.Reader.Get(ctx, client.ObjectKey{Namespace: name.Namespace, Name: name.Name}, live)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read Deployment %s: %w", name.Name, err)
	}
	if live.Spec.Replicas == nil {
		return nil
	}
	owned, err := setsReplicas(live, apply.FieldManager)
	if err == nil && !owned && *live.Spec.Replicas == 0 {
		owned, err = setsReplicas(live, handOverManager) // stopped while a Secret was missing
	}
	if err != nil || !owned {
		return err
	}
	replicas, options := *live.Spec.Replicas, []client.ApplyOption{client.FieldOwner(handOverManager)}
	if replicas == 0 {
		replicas = workloads.LeastReplicas(p.stack, role)
		options = append(options, client.ForceOwnership)
	}
	err = r.Client.Apply(ctx, appsv1ac.Deployment(name.Name, name.Namespace).
		WithUID(live.UID).WithSpec(appsv1ac.DeploymentSpec().WithReplicas(replicas)), options...)
	if apierrors.IsConflict(err) {
		return &apply.Waiting{Reason: v1alpha1.ReasonProgressing, After: firstRetry, Message: fmt.Sprintf("Deployment %s was scaled just now", name.Name)}
	}
	if err != nil {
		return fmt.Errorf("hand over the number of pods of Deployment %s: %w", name.Name, err)
	}
	return nil
}

// setsReplicas tells whether a field manager of the operator's owns the Deployment's replicas.
func setsReplicas(d *appsv1.Deployment, manager string) (bool, error) {
	for _, entry := range d.ManagedFields {
		if entry.Manager != manager || entry.Operation != metav1.ManagedFieldsOperationApply || entry.Subresource != "" || entry.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Spec struct {
				Replicas *json.RawMessage `json:"f:replicas"`
			} `json:"f:spec"`
		}
		if err := json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields); err != nil {
			return false, fmt.Errorf("read the field managers of Deployment %s: %w", d.Name, err)
		}
		return fields.Spec.Replicas != nil, nil
	}
	return false, nil
}
