package atlasstack

import (
	"cmp"
	"context"
	"fmt"
	"net"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// expose applies what stands around the pods, and says whether the API can be reached by it. One part that fails holds no other up.
func (r *Reconciler) expose(ctx context.Context, p *pass) (string, error) {
	var failures []error
	for _, role := range workloads.Roles() {
		failures = append(failures, r.ensurePolicy(ctx, p, role), r.ensureService(ctx, p, workloads.Name(p.stack, role), workloads.Service(p.stack, role)))
	}
	failures = append(failures,
		r.ensurePolicy(ctx, p, workloads.RoleMigrate),
		r.ensureService(ctx, p, workloads.OpsServiceName(p.stack), configuration(workloads.OpsService(p.stack))),
		r.ensureIngress(ctx, p), r.ensureRoute(ctx, p), r.ensureMonitor(ctx, p), r.ensureDashboards(ctx, p))
	text, err := r.reached(ctx, p)
	return text, gravest(append(failures, err))
}

// configuration is nil for an object that is not asked for: ensure can't tell a nil pointer from others.
func configuration[T any, P interface {
	*T
	runtime.ApplyConfiguration
}](want P) runtime.ApplyConfiguration {
	if want == nil {
		return nil
	}
	return want
}

// metadataOf is an object of which the cache holds the metadata only.
func metadataOf(p *pass, kind schema.GroupVersionKind, name string) client.Object {
	object := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: p.stack.Namespace, Name: name}}
	object.SetGroupVersionKind(kind)
	return object
}

func (r *Reconciler) ensureService(ctx context.Context, p *pass, name string, want runtime.ApplyConfiguration) error {
	return refused(r.ensure(ctx, p, want, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: p.stack.Namespace, Name: name}}), "networking.service")
}

func (r *Reconciler) ensurePolicy(ctx context.Context, p *pass, role workloads.Role) error {
	policy, err := workloads.NetworkPolicy(p.stack, role, r.Namespace)
	if err != nil {
		return err
	}
	live := metadataOf(p, networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy"), workloads.Name(p.stack, role))
	if policy == nil {
		return r.ensure(ctx, p, nil, live)
	}
	return refused(r.ensure(ctx, p, client.ApplyConfigurationFromUnstructured(policy), live), "networking.networkPolicy")
}

func (r *Reconciler) ensureIngress(ctx context.Context, p *pass) error {
	return refused(r.ensure(ctx, p, configuration(workloads.Ingress(p.stack)), &networkingv1.Ingress{ObjectMeta: apiObject(p)}), "networking.ingress")
}

func (r *Reconciler) ensureRoute(ctx context.Context, p *pass) error {
	const field = "networking.httpRoute"
	return refused(r.ensureOptional(ctx, p, workloads.HTTPRouteKind(), field, apiObject(p).Name, workloads.HTTPRoute(p.stack)), field)
}

// ensureMonitor keeps the monitor of the kind that is asked for, and removes one of the other.
func (r *Reconciler) ensureMonitor(ctx context.Context, p *pass) error {
	const field = "observability.monitor"
	var failures []error
	for _, kind := range []string{workloads.ServiceMonitor, workloads.PodMonitor} {
		err := r.ensureOptional(ctx, p, workloads.MonitorKind(kind), field, p.stack.Name, workloads.Monitor(p.stack, kind))
		failures = append(failures, refused(err, field))
	}
	return gravest(failures)
}

func (r *Reconciler) ensureDashboards(ctx context.Context, p *pass) error {
	live := metadataOf(p, corev1.SchemeGroupVersion.WithKind("ConfigMap"), workloads.DashboardsName(p.stack))
	return refused(r.ensure(ctx, p, configuration(workloads.Dashboards(p.stack)), live), "observability.dashboards")
}

func apiObject(p *pass) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: p.stack.Namespace, Name: workloads.Name(p.stack, workloads.RoleAPI)}
}

// reached finds the ways to the API that the spec asks for, and says which is not open yet.
//
// A Service of type LoadBalancer has to have its address, as Helm and kstatus have it, and every Gateway has to accept the route, which its controller must
// say. An Ingress counts once it is applied: many controllers never write an address into it.
func (r *Reconciler) reached(ctx context.Context, p *pass) (string, error) {
	networking, name := &p.stack.Spec.Networking, client.ObjectKey{Namespace: p.stack.Namespace, Name: apiObject(p).Name}
	outside, text := workloads.IngressURL(p.stack), "everything around the pods is in place"
	var failures []error
	if networking.Service.Type == corev1.ServiceTypeLoadBalancer {
		service := &corev1.Service{}
		if err := r.Client.Get(ctx, name, service); client.IgnoreNotFound(err) != nil {
			return "", fmt.Errorf("read Service %s: %w", name.Name, err)
		}
		address := balanced(service)
		if address == "" {
			failures = append(failures, &apply.Waiting{Reason: v1alpha1.ReasonProgressing, Message: fmt.Sprintf(
				"Service %s of type LoadBalancer has no address yet: its events tell why; where the cluster has no load balancers, choose another type in spec.networking.service",
				name.Name)})
		} else {
			outside = cmp.Or(outside, "http://"+address)
		}
	}
	if networking.Ingress != nil {
		ingress := &networkingv1.Ingress{}
		if err := r.Client.Get(ctx, name, ingress); client.IgnoreNotFound(err) != nil {
			return "", fmt.Errorf("read Ingress %s: %w", name.Name, err)
		}
		if len(ingress.Status.LoadBalancer.Ingress) == 0 {
			text += "; Ingress " + name.Name + " has no address, which not every controller gives: does its class exist?"
		}
	}
	if networking.HTTPRoute != nil {
		failures = append(failures, r.routed(ctx, p, name))
	}
	p.stack.Status.ExternalEndpoint = outside
	return text, gravest(failures)
}

// balanced is the address that a load balancer gave a Service.
func balanced(service *corev1.Service) string {
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return ""
	}
	for _, at := range service.Status.LoadBalancer.Ingress {
		if address := cmp.Or(at.Hostname, at.IP); net.ParseIP(address).To4() == nil && net.ParseIP(address) != nil {
			return "[" + address + "]"
		} else if address != "" {
			return address
		}
	}
	return ""
}

// routed says whether every Gateway has accepted the route.
func (r *Reconciler) routed(ctx context.Context, p *pass, name client.ObjectKey) error {
	kind := workloads.HTTPRouteKind()
	if present, synced, err := r.kinds.has(ctx, kind); err != nil || !present || !synced {
		return err // ensureRoute tells of the latter
	}
	route := &unstructured.Unstructured{}
	route.SetGroupVersionKind(kind.GroupVersionKind)
	if err := r.kinds.cache.Get(ctx, name, route); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read HTTPRoute %s: %w", name.Name, err)
	}
	return accepted(p.stack, route)
}
