package workloads

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

type (
	policyPeer  = networkingv1ac.NetworkPolicyPeerApplyConfiguration
	ingressRule = networkingv1ac.NetworkPolicyIngressRuleApplyConfiguration
	egressRule  = networkingv1ac.NetworkPolicyEgressRuleApplyConfiguration
)

// NetworkPolicy restricts who may connect to a role's pods, or is nil. operator is the namespace of the operator, which jobs go through; empty when it runs
// outside the cluster.
func NetworkPolicy(stack *v1alpha1.AtlasStack, role Role, operator string) (*unstructured.Unstructured, error) {
	from := stack.Spec.Networking.NetworkPolicy
	if from == nil {
		return nil, nil
	}
	spec := networkingv1ac.NetworkPolicySpec().
		WithPodSelector(metav1ac.LabelSelector().WithMatchLabels(selector(stack, role))).
		WithPolicyTypes(networkingv1.PolicyTypeIngress)
	rules, err := policyIngress(from, role, operator)
	if err != nil {
		return nil, err
	}
	spec.WithIngress(rules...)
	if len(from.Egress) > 0 {
		var egress []*egressRule
		if err := convert(from.Egress, &egress); err != nil {
			return nil, err
		}
		spec.WithPolicyTypes(networkingv1.PolicyTypeEgress).WithEgress(egress...)
	}
	policy := &unstructured.Unstructured{}
	err = convert(networkingv1ac.NetworkPolicy(Name(stack, role), stack.Namespace).
		WithLabels(Labels(stack, role)).
		WithOwnerReferences(owner(stack)).
		WithSpec(spec), &policy.Object)
	if err != nil || len(rules) > 0 {
		return policy, err
	}
	// That nobody may connect has to be said, which the typed configuration can't: a rule that somebody adds would stay otherwise.
	err = unstructured.SetNestedSlice(policy.Object, []any{}, "spec", "ingress")
	return policy, err
}

func policyIngress(from *v1alpha1.NetworkPolicySpec, role Role, operator string) (rules []*ingressRule, err error) {
	if role == RoleAPI {
		api := ruleFor(httpPort)
		if len(from.APIFrom) > 0 {
			var peers []*policyPeer
			if err := convert(from.APIFrom, &peers); err != nil {
				return nil, err
			}
			if operator != "" {
				peers = append(peers, operatorPeer(operator))
			}
			api.WithFrom(peers...)
		}
		rules = append(rules, api)
	}
	if role != RoleMigrate && len(from.MetricsFrom) > 0 {
		var peers []*policyPeer
		if err := convert(from.MetricsFrom, &peers); err != nil {
			return nil, err
		}
		rules = append(rules, ruleFor(opsPort).WithFrom(peers...))
	}
	return rules, nil
}

func ruleFor(port int32) *ingressRule {
	return networkingv1ac.NetworkPolicyIngressRule().WithPorts(
		networkingv1ac.NetworkPolicyPort().WithProtocol(corev1.ProtocolTCP).WithPort(intstr.FromInt32(port)))
}

// operatorPeer are the operator's pods, as the chart and config/ label them.
func operatorPeer(namespace string) *policyPeer {
	return networkingv1ac.NetworkPolicyPeer().
		WithNamespaceSelector(metav1ac.LabelSelector().WithMatchLabels(map[string]string{corev1.LabelMetadataName: namespace})).
		WithPodSelector(metav1ac.LabelSelector().WithMatchLabels(map[string]string{"app.kubernetes.io/name": "atlas-operator"}))
}
