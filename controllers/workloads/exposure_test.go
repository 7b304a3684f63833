package workloads_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// exposedStack sets everything of networking and observability that changes what is built.
func exposedStack() *v1alpha1.AtlasStack {
	stack := plainStack()
	from := func(namespace string) []networkingv1.NetworkPolicyPeer {
		return []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": namespace}}}}
	}
	stack.Spec.Networking = v1alpha1.NetworkingSpec{
		Service: v1alpha1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Annotations: map[string]string{"example.com/scheme": "internal"},
			LoadBalancerClass: ptr.To("example.com/inner"), LoadBalancerSourceRanges: []string{"10.0.0.0/8"},
		},
		Ingress: &v1alpha1.IngressSpec{
			Host: "atlas.example.com", ClassName: ptr.To("nginx"), TLSSecretName: "atlas-tls", Annotations: map[string]string{"cert-manager.io/issuer": "ca"},
		},
		HTTPRoute: &v1alpha1.HTTPRouteSpec{
			ParentRefs: []v1alpha1.GatewayReference{{Name: "web", Namespace: "gateways", SectionName: "https"}, {Name: "inner"}},
			Hostnames:  []string{"atlas.example.com"}, Annotations: map[string]string{"example.com/a": "b"},
		},
		NetworkPolicy: &v1alpha1.NetworkPolicySpec{
			APIFrom: from("web"), MetricsFrom: from("monitoring"),
			Egress: []networkingv1.NetworkPolicyEgressRule{{Ports: []networkingv1.NetworkPolicyPort{{Port: ptr.To(intstr.FromInt32(53)), Protocol: ptr.To(corev1.ProtocolUDP)}}}},
		},
	}
	stack.Spec.Observability = v1alpha1.ObservabilitySpec{
		Monitor: &v1alpha1.MonitorSpec{
			Kind: workloads.ServiceMonitor, Interval: &metav1.Duration{Duration: 15 * time.Second},
			Labels: map[string]string{"release": "prometheus", workloads.StackLabel: "not this"},
		},
		Dashboards: &v1alpha1.DashboardsSpec{Labels: map[string]string{"grafana_dashboard": "1"}},
	}
	return stack
}

func TestGoldenExposure(t *testing.T) {
	t.Parallel()
	stack := exposedStack()
	pods := stack.DeepCopy()
	pods.Spec.Observability.Monitor = &v1alpha1.MonitorSpec{Kind: workloads.PodMonitor}
	all := []any{
		workloads.Service(stack, workloads.RoleAPI), workloads.OpsService(stack), workloads.Ingress(stack), workloads.HTTPRoute(stack).Object,
		workloads.Monitor(stack, workloads.ServiceMonitor).Object, workloads.Monitor(pods, workloads.PodMonitor).Object,
	}
	for _, role := range append(workloads.Roles(), workloads.RoleMigrate) {
		policy, err := workloads.NetworkPolicy(stack, role, "atlas-system")
		require.NoError(t, err)
		all = append(all, policy.Object)
	}
	dashboards := workloads.Dashboards(stack)
	for name := range dashboards.Data {
		dashboards.Data[name] = "…"
	}
	var got bytes.Buffer
	for _, object := range append(all, dashboards) {
		doc, err := yaml.Marshal(object)
		require.NoError(t, err)
		got.WriteString("---\n")
		got.Write(doc)
	}
	file := filepath.Join("testdata", "exposure.yaml")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.WriteFile(file, got.Bytes(), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "UPDATE_GOLDEN=1 go test writes it")
	require.Equal(t, string(want), got.String(), "if this change is meant, UPDATE_GOLDEN=1 go test accepts it")
}

func TestNothingIsExposedUnasked(t *testing.T) {
	t.Parallel()
	stack := plainStack()
	require.Nil(t, workloads.Ingress(stack))
	require.Nil(t, workloads.HTTPRoute(stack))
	require.Nil(t, workloads.OpsService(stack))
	require.Nil(t, workloads.Dashboards(stack))
	for _, kind := range []string{workloads.ServiceMonitor, workloads.PodMonitor} {
		require.Nil(t, workloads.Monitor(stack, kind))
	}
	policy, err := workloads.NetworkPolicy(stack, workloads.RoleAPI, "atlas-system")
	require.NoError(t, err)
	require.Nil(t, policy)
}

// TestPolicyOfEverybody: the API takes connections from everybody when it is not said from whom, and its metrics from nobody.
func TestPolicyOfEverybody(t *testing.T) {
	t.Parallel()
	stack := plainStack()
	stack.Spec.Networking.NetworkPolicy = &v1alpha1.NetworkPolicySpec{}
	for _, role := range append(workloads.Roles(), workloads.RoleMigrate) {
		built, err := workloads.NetworkPolicy(stack, role, "atlas-system")
		require.NoError(t, err)
		policy := &networkingv1.NetworkPolicy{}
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(built.Object, policy))
		require.Equal(t, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}, policy.Spec.PolicyTypes)
		if role != workloads.RoleAPI {
			require.NotNil(t, policy.Spec.Ingress, role)
			require.Empty(t, policy.Spec.Ingress, role)
			continue
		}
		require.Len(t, policy.Spec.Ingress, 1)
		require.Empty(t, policy.Spec.Ingress[0].From)
		require.Equal(t, int32(8080), policy.Spec.Ingress[0].Ports[0].Port.IntVal)
	}
}

func TestIngressURL(t *testing.T) {
	t.Parallel()
	stack := plainStack()
	require.Empty(t, workloads.IngressURL(stack))
	stack.Spec.Networking.Ingress = &v1alpha1.IngressSpec{Host: "a.example.com"}
	require.Equal(t, "http://a.example.com", workloads.IngressURL(stack))
	stack.Spec.Networking.Ingress.TLSSecretName = "tls"
	require.Equal(t, "https://a.example.com", workloads.IngressURL(stack))
	stack.Spec.Networking.Ingress.Host = "*.example.com"
	require.Empty(t, workloads.IngressURL(stack))
}

// TestDashboardShowsMetricsThatExist looks for the name of each metric in the data plane's code.
func TestDashboardShowsMetricsThatExist(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	name := regexp.MustCompile(`"(atlas_[a-z_]+)"`)
	for _, dir := range []string{"services", "internal"} {
		require.NoError(t, filepath.WalkDir(filepath.Join("..", "..", dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			content, err := os.ReadFile(path)
			for _, found := range name.FindAllStringSubmatch(string(content), -1) {
				known[found[1]] = true
			}
			return err
		}))
	}
	used := 0
	for _, content := range workloads.Dashboards(exposedStack()).Data {
		dashboard := struct {
			Panels []struct {
				Targets []struct{ Expr string }
			}
			Templating struct{ List []struct{ Definition string } }
		}{}
		require.NoError(t, json.Unmarshal([]byte(content), &dashboard))
		var expressions []string
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				expressions = append(expressions, target.Expr)
				require.Equal(t, strings.Count(target.Expr, "("), strings.Count(target.Expr, ")"), target.Expr)
			}
		}
		for _, variable := range dashboard.Templating.List {
			expressions = append(expressions, variable.Definition)
		}
		// platform_atlas_dev_stack is a label.
		for _, metric := range regexp.MustCompile(`\batlas_[a-z_]+`).FindAllString(strings.Join(expressions, "\n"), -1) {
			used++
			require.True(t, known[metric] || known[strings.TrimSuffix(metric, "_bucket")], "no code has the metric %s", metric)
		}
	}
	require.Greater(t, used, 30)
}
