package atlasstack

import (
	"cmp"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
)

// routeStatus is the part of an HTTPRoute's status that is read.
type routeStatus struct {
	Parents []struct {
		ParentRef  v1alpha1.GatewayReference `json:"parentRef"`
		Conditions []metav1.Condition        `json:"conditions"`
	} `json:"parents"`
}

// accepted returns nil when every Gateway that the spec names has accepted the route as it is now.
func accepted(stack *v1alpha1.AtlasStack, route *unstructured.Unstructured) error {
	status := routeStatus{}
	if found, ok := route.Object["status"].(map[string]any); ok {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(found, &status); err != nil {
			return fmt.Errorf("read the status of HTTPRoute %s: %w", route.GetName(), err)
		}
	}
	var failures []error
	for _, parent := range stack.Spec.Networking.HTTPRoute.ParentRefs {
		failures = append(failures, acceptedBy(stack, route, status, parent))
	}
	return gravest(failures)
}

func acceptedBy(stack *v1alpha1.AtlasStack, route *unstructured.Unstructured, status routeStatus, parent v1alpha1.GatewayReference) error {
	own := stack.Namespace
	gateway := cmp.Or(parent.Namespace, own) + "/" + parent.Name
	for _, answer := range status.Parents {
		ref := answer.ParentRef
		if ref.Name != parent.Name || ref.SectionName != parent.SectionName || cmp.Or(ref.Namespace, own) != cmp.Or(parent.Namespace, own) {
			continue
		}
		for _, kind := range []string{"Accepted", "ResolvedRefs"} {
			c := meta.FindStatusCondition(answer.Conditions, kind)
			if c == nil || c.ObservedGeneration < route.GetGeneration() {
				return &apply.Waiting{Reason: v1alpha1.ReasonProgressing, Message: fmt.Sprintf(
					"Gateway %s has not looked at HTTPRoute %s as it is now", gateway, route.GetName())}
			}
			if c.Status != metav1.ConditionTrue {
				return &apply.Waiting{Reason: v1alpha1.ReasonRefused, Message: fmt.Sprintf(
					"Gateway %s does not take HTTPRoute %s (%s): %s: change the Gateway's listeners, or spec.networking.httpRoute",
					gateway, route.GetName(), c.Reason, c.Message)}
			}
		}
		return nil
	}
	return &apply.Waiting{Reason: v1alpha1.ReasonProgressing, Message: fmt.Sprintf(
		"no controller has answered for HTTPRoute %s at Gateway %s: does the Gateway exist, and the listener, with a controller that runs?", route.GetName(), gateway)}
}
