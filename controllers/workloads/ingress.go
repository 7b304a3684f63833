package workloads

import (
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// Ingress exposes the REST API under a host, or is nil.
func Ingress(stack *v1alpha1.AtlasStack) *networkingv1ac.IngressApplyConfiguration {
	from := stack.Spec.Networking.Ingress
	if from == nil {
		return nil
	}
	name := Name(stack, RoleAPI)
	backend := networkingv1ac.IngressBackend().WithService(networkingv1ac.IngressServiceBackend().WithName(name).
		WithPort(networkingv1ac.ServiceBackendPort().WithName("http")))
	spec := networkingv1ac.IngressSpec().WithRules(networkingv1ac.IngressRule().WithHost(from.Host).WithHTTP(
		networkingv1ac.HTTPIngressRuleValue().WithPaths(
			networkingv1ac.HTTPIngressPath().WithPath("/").WithPathType(networkingv1.PathTypePrefix).WithBackend(backend))))
	if from.ClassName != nil {
		spec.WithIngressClassName(*from.ClassName)
	}
	if from.TLSSecretName != "" {
		spec.WithTLS(networkingv1ac.IngressTLS().WithHosts(from.Host).WithSecretName(from.TLSSecretName))
	}
	return networkingv1ac.Ingress(name, stack.Namespace).
		WithLabels(Labels(stack, RoleAPI)).
		WithAnnotations(from.Annotations).
		WithOwnerReferences(owner(stack)).
		WithSpec(spec)
}

// IngressURL is the REST API's URL by the Ingress; empty when there is none, or it is for many hosts.
func IngressURL(stack *v1alpha1.AtlasStack) string {
	from := stack.Spec.Networking.Ingress
	switch {
	case from == nil || strings.HasPrefix(from.Host, "*"):
		return ""
	case from.TLSSecretName != "":
		return "https://" + from.Host
	default:
		return "http://" + from.Host
	}
}
