package atlasstack

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	autoscalingv2ac "k8s.io/client-go/applyconfigurations/autoscaling/v2"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	policyv1ac "k8s.io/client-go/applyconfigurations/policy/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// found is an object of a role as a restarted operator found it.
type found struct {
	empty client.Object // of its kind, with its name
	own   *unstructured.Unstructured
}

// find reads the objects of a role, and returns what of them the operator once applied and nobody has changed since; nothing without a Deployment. These are live
// reads: the cache has no field managers.
func (r *Reconciler) find(ctx context.Context, p *pass, name metav1.ObjectMeta) (objects []found, err error) {
	err = r.Client.Get(ctx, client.ObjectKey{Namespace: name.Namespace, Name: name.Name}, &appsv1.Deployment{})
	if apierrors.IsNotFound(err) {
		return nil, nil // the cache is enough to know that of a stack whose database is about to be migrated for the first time
	}
	if err != nil {
		return nil, fmt.Errorf("read Deployment %s: %w", name.Name, err)
	}
	for _, live := range []client.Object{
		&appsv1.Deployment{ObjectMeta: name}, &corev1.ServiceAccount{ObjectMeta: name},
		&policyv1.PodDisruptionBudget{ObjectMeta: name}, &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: name},
	} {
		empty, _ := live.DeepCopyObject().(client.Object)
		err := r.Reader.Get(ctx, client.ObjectKeyFromObject(live), live)
		if client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("read %T %s: %w", live, name.Name, err)
		}
		if err == nil && (metav1.IsControlledBy(live, p.stack) || apply.Orphaned(live, p.stack)) {
			own, err := extract(live)
			if err != nil {
				return nil, fmt.Errorf("read the field managers of %T %s: %w", live, name.Name, err)
			}
			own.SetOwnerReferences([]metav1.OwnerReference{workloads.Owner(p.stack)})
			objects = append(objects, found{empty, own})
		} else if _, ok := live.(*appsv1.Deployment); ok {
			return nil, nil
		}
	}
	return objects, nil
}

// extract returns the fields that the operator owns.
func extract(live client.Object) (*unstructured.Unstructured, error) {
	var own any
	var err error
	switch o := live.(type) {
	case *appsv1.Deployment:
		own, err = appsv1ac.ExtractDeployment(o, apply.FieldManager)
	case *corev1.ServiceAccount:
		own, err = corev1ac.ExtractServiceAccount(o, apply.FieldManager)
	case *policyv1.PodDisruptionBudget:
		own, err = policyv1ac.ExtractPodDisruptionBudget(o, apply.FieldManager)
	case *autoscalingv2.HorizontalPodAutoscaler:
		own, err = autoscalingv2ac.ExtractHorizontalPodAutoscaler(o, apply.FieldManager)
	}
	if err != nil {
		return nil, err
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(own)
	return &unstructured.Unstructured{Object: content}, err
}

// applyFound puts right what somebody has changed since it was found. It reports false where that can't be: what lacked a field then can't be made again.
func (r *Reconciler) applyFound(ctx context.Context, p *pass, role workloads.Role) (bool, error) {
	for _, object := range p.memory.found[role] {
		live, _ := object.empty.DeepCopyObject().(client.Object)
		generation, err := r.applier.Apply(ctx, p.stack, client.ApplyConfigurationFromUnstructured(object.own.DeepCopy()), live)
		if d := denial(err); d != nil {
			return true, d
		}
		if apierrors.IsInvalid(err) {
			delete(p.memory.found, role)
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if _, ok := live.(*appsv1.Deployment); ok {
			p.applied[role] = generation
		}
	}
	return true, nil
}
