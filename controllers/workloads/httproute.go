package workloads

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// HTTPRoute attaches the REST API to Gateways, or is nil.
func HTTPRoute(stack *v1alpha1.AtlasStack) *unstructured.Unstructured {
	spec := stack.Spec.Networking.HTTPRoute
	if spec == nil {
		return nil
	}
	parents := make([]any, 0, len(spec.ParentRefs))
	for _, ref := range spec.ParentRefs {
		parent := map[string]any{"group": HTTPRouteKind().Group, "kind": "Gateway", "name": ref.Name}
		if ref.Namespace != "" {
			parent["namespace"] = ref.Namespace
		}
		if ref.SectionName != "" {
			parent["sectionName"] = ref.SectionName
		}
		parents = append(parents, parent)
	}
	route := optional(stack, HTTPRouteKind(), Name(stack, RoleAPI), Labels(stack, RoleAPI))
	if len(spec.Annotations) > 0 {
		route.SetAnnotations(spec.Annotations)
	}
	// What the API server would add is said in full, so that an edit of it is put right too.
	body := map[string]any{
		"parentRefs": parents,
		"rules": []any{map[string]any{
			"matches": []any{map[string]any{"path": map[string]any{"type": "PathPrefix", "value": "/"}}},
			"backendRefs": []any{map[string]any{
				"group": "", "kind": "Service", "name": Name(stack, RoleAPI), "port": int64(servicePort), "weight": int64(1),
			}},
		}},
	}
	if len(spec.Hostnames) > 0 {
		names := make([]any, 0, len(spec.Hostnames))
		for _, name := range spec.Hostnames {
			names = append(names, name)
		}
		body["hostnames"] = names
	}
	route.Object["spec"] = body
	return route
}
