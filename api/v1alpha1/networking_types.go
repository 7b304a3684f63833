package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// NetworkingSpec says who reaches the platform and how.
type NetworkingSpec struct {
	// service is the Service of the REST API.
	// +optional
	// +default={}
	Service ServiceSpec `json:"service,omitzero"`

	// ingress exposes the REST API by an Ingress.
	// +optional
	Ingress *IngressSpec `json:"ingress,omitempty"`

	// httpRoute exposes the REST API by a route of the Gateway API. The CRDs of the Gateway API must be in the cluster.
	// +optional
	HTTPRoute *HTTPRouteSpec `json:"httpRoute,omitempty"`

	// networkPolicy, {} at least, restricts who may connect to the pods. Without it nothing is restricted.
	// +optional
	NetworkPolicy *NetworkPolicySpec `json:"networkPolicy,omitempty"`

	// trustedProxies are the CIDRs of proxies whose X-Forwarded-For is believed, such as those of an ingress controller. Without them the address of
	// the connection counts as the client's.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="want a CIDR, 10.0.0.0/8 for example"
	TrustedProxies []string `json:"trustedProxies,omitempty"`

	// corsOrigins are the origins of web pages that may call the REST API from a browser, each scheme://host[:port].
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=300
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^https?://[^ /,*@?#A-Z]+$') && isURL(self) && !(self.startsWith('https:') && self.endsWith(':443')) && !(self.startsWith('http:') && self.endsWith(':80'))",message="want an origin as browsers send it, https://app.example.com or http://localhost:3000 for example: in lower case, without a path, and without the port 443 of https or 80 of http"
	// +kubebuilder:validation:items:XValidation:rule="!isURL(self) || url(self).getPort() == '' || (url(self).getPort().size() <= 5 && int(url(self).getPort()) >= 1 && int(url(self).getPort()) <= 65535)",message="the port is not between 1 and 65535"
	CORSOrigins []string `json:"corsOrigins,omitempty"`

	// requestsPerMinute is how many requests a minute each caller may make of one pod; 0 sets no limit. The release's own default applies when it is not set.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	RequestsPerMinute *int32 `json:"requestsPerMinute,omitempty"`
}

// ServiceSpec is the Service of the REST API.
//
// +kubebuilder:validation:XValidation:rule="self.type == 'LoadBalancer' || !has(self.loadBalancerClass)",message="loadBalancerClass is for a Service of type LoadBalancer: set type to LoadBalancer, or remove loadBalancerClass"
// +kubebuilder:validation:XValidation:rule="self.type == 'LoadBalancer' || !has(self.loadBalancerSourceRanges)",message="loadBalancerSourceRanges are for a Service of type LoadBalancer: set type to LoadBalancer, or remove loadBalancerSourceRanges"
// +kubebuilder:validation:XValidation:rule="self.type != 'LoadBalancer' || oldSelf.type != 'LoadBalancer' || (has(self.loadBalancerClass) ? has(oldSelf.loadBalancerClass) && self.loadBalancerClass == oldSelf.loadBalancerClass : !has(oldSelf.loadBalancerClass))",message="loadBalancerClass of a load balancer can't be changed: change type to ClusterIP first, and back with the other class"
type ServiceSpec struct {
	// type is the type of the Service.
	// +optional
	// +default="ClusterIP"
	// +kubebuilder:validation:Enum=ClusterIP;NodePort;LoadBalancer
	Type corev1.ServiceType `json:"type,omitempty"`

	// annotations are those of the Service, which load balancers are configured with.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Annotations map[string]string `json:"annotations,omitempty"`

	// loadBalancerClass is the implementation of a Service of type LoadBalancer.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$')`,message="want the name of a class of load balancers, service.k8s.aws/nlb for example, or remove it for the cluster's own"
	LoadBalancerClass *string `json:"loadBalancerClass,omitempty"`

	// loadBalancerSourceRanges are the CIDRs from which a load balancer takes connections.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="want a CIDR, 10.0.0.0/8 for example"
	LoadBalancerSourceRanges []string `json:"loadBalancerSourceRanges,omitempty"`
}

// IngressSpec exposes the REST API by an Ingress.
type IngressSpec struct {
	// host is the name under which the API is reached.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,message="ingress.host is not a name in lower case, atlas.example.com for example"
	// +kubebuilder:validation:XValidation:rule="!isIP(self)",message="ingress.host is an address, which an Ingress can't have: want a name, atlas.example.com for example"
	Host string `json:"host"`

	// className is the IngressClass; the cluster's default class when it is not set.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,message="not the name of an IngressClass: want lower-case letters, digits, '-' and '.', nginx for example, or remove it for the default class"
	ClassName *string `json:"className,omitempty"`

	// annotations are those of the Ingress, which controllers are configured with.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Annotations map[string]string `json:"annotations,omitempty"`

	// tlsSecretName is the Secret with the certificate of host, under tls.crt and tls.key, for HTTPS. cert-manager can make it, by an annotation.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self == '' || self.matches(r'^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,message="not the name of a Secret: want lower-case letters, digits, '-' and '.', atlas-tls for example"
	TLSSecretName string `json:"tlsSecretName,omitempty"`
}

// HTTPRouteSpec exposes the REST API by a route of the Gateway API. TLS is a matter of the Gateway's listener.
type HTTPRouteSpec struct {
	// parentRefs are the Gateways, or listeners of them, that the route is attached to.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	ParentRefs []GatewayReference `json:"parentRefs"`

	// hostnames are the names that are routed; those of the listener when there are none.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:XValidation:rule=`self.matches(r'^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,message="want a name in lower case, without a scheme or a port, atlas.example.com or *.example.com for example"
	// +kubebuilder:validation:items:XValidation:rule="!isIP(self)",message="an HTTPRoute can't have an address: want a name, atlas.example.com for example"
	Hostnames []string `json:"hostnames,omitempty"`

	// annotations are those of the route.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Annotations map[string]string `json:"annotations,omitempty"`
}

// GatewayReference is a Gateway, or one of its listeners.
type GatewayReference struct {
	// name is the Gateway's name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,message="not the name of a Gateway: want lower-case letters, digits, '-' and '.', public for example"
	Name string `json:"name"`

	// namespace is the Gateway's namespace; the stack's own when it is not set.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="not the name of a namespace: want lower-case letters, digits and '-', gateways for example"
	Namespace string `json:"namespace,omitempty"`

	// sectionName is a listener of the Gateway; all of them when it is not set.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self == '' || self.matches(r'^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,message="not the name of a Gateway's listener: want lower-case letters, digits, '-' and '.', https for example"
	SectionName string `json:"sectionName,omitempty"`
}

// NetworkPolicySpec restricts who may connect to the pods. The operator may always, and so may kubelets.
type NetworkPolicySpec struct {
	// apiFrom are those who may connect to the REST API; everybody when it is not set.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	APIFrom []networkingv1.NetworkPolicyPeer `json:"apiFrom,omitempty"`

	// metricsFrom are those who may read metrics; nobody when it is not set.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	MetricsFrom []networkingv1.NetworkPolicyPeer `json:"metricsFrom,omitempty"`

	// egress are the connections that the pods may make; all when it is not set. It must then hold DNS, PostgreSQL, every broker, Elasticsearch, the object
	// store, and for the worker the web that it fetches pages from.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Egress []networkingv1.NetworkPolicyEgressRule `json:"egress,omitempty"`
}
