package workloads_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

func golden(t *testing.T, name string, objects ...any) {
	t.Helper()
	var got bytes.Buffer
	for _, object := range objects {
		doc, err := yaml.Marshal(object)
		require.NoError(t, err)
		got.WriteString("---\n")
		got.Write(doc)
	}
	file := filepath.Join("testdata", name+".yaml")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.WriteFile(file, got.Bytes(), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "UPDATE_GOLDEN=1 go test writes it")
	require.Equal(t, string(want), got.String(), "if this change is meant, UPDATE_GOLDEN=1 go test accepts it")
}

// settingsStack has every plain field.
func settingsStack() *v1alpha1.AtlasStack {
	stack := plainStack()
	spec := &stack.Spec
	spec.Auth.AccessTokenLifetime, spec.Auth.RefreshTokenLifetime = &metav1.Duration{Duration: 5 * time.Minute}, &metav1.Duration{Duration: 24 * time.Hour}
	spec.Auth.Registration = v1alpha1.RegistrationClosed
	spec.Retention = v1alpha1.RetentionSpec{
		Trash: &metav1.Duration{Duration: 48 * time.Hour}, Jobs: &metav1.Duration{Duration: 72 * time.Hour}, Files: &metav1.Duration{Duration: 90 * time.Minute},
	}
	spec.Enrichment = v1alpha1.EnrichmentSpec{
		AllowCIDRs: []string{"10.1.0.0/16", "fd00::/8"}, DenyCIDRs: []string{"192.0.2.0/24"}, Contact: "https://example.com/crawler",
	}
	spec.Networking.TrustedProxies = []string{"10.0.0.0/8", "192.168.0.0/16"}
	spec.Networking.CORSOrigins = []string{"https://app.example.com", "http://localhost:3000"}
	spec.Networking.RequestsPerMinute = ptr.To(int32(0))
	return stack
}

func variables(t *testing.T, stack *v1alpha1.AtlasStack, role workloads.Role) map[string]string {
	t.Helper()
	var template *corev1ac.PodTemplateSpecApplyConfiguration
	if role == workloads.RoleMigrate {
		template = workloads.MigrationJob(stack, plainInputs(), "0123456789abcdef", 1).Spec.Template
	} else {
		deployment, err := workloads.Deployment(stack, role, plainInputs())
		require.NoError(t, err)
		template = deployment.Spec.Template
	}
	out := map[string]string{}
	for _, variable := range template.Spec.Containers[0].Env {
		out[*variable.Name] = ""
		if variable.Value != nil {
			out[*variable.Name] = *variable.Value
		}
	}
	return out
}

// TestSettings compares each role's variables with and without the fields: a role gets those that it reads, and none when nothing is set.
func TestSettings(t *testing.T) {
	t.Parallel()
	for role, want := range map[workloads.Role]map[string]string{
		workloads.RoleAPI: {
			"ACCESS_TOKEN_TTL": "5m0s", "REFRESH_TOKEN_TTL": "24h0m0s", "REGISTRATION": "closed", "TRASH_RETENTION": "48h0m0s",
			"TRUSTED_PROXIES": "10.0.0.0/8,192.168.0.0/16", "CORS_ORIGINS": "https://app.example.com,http://localhost:3000", "RATE_LIMIT": "0",
		},
		workloads.RoleWorker: {
			"TRASH_RETENTION": "48h0m0s", "JOB_RETENTION": "72h0m0s", "FILE_RETENTION": "1h30m0s",
			"ENRICH_ALLOW_CIDRS": "10.1.0.0/16,fd00::/8", "ENRICH_DENY_CIDRS": "192.0.2.0/24", "ENRICH_CONTACT": "https://example.com/crawler",
		},
		workloads.RoleIndexer: {}, workloads.RoleAudit: {}, workloads.RoleMigrate: {},
	} {
		before, after := variables(t, plainStack(), role), variables(t, settingsStack(), role)
		got := map[string]string{}
		for name, value := range after {
			if old, there := before[name]; !there || old != value {
				got[name] = value
			}
		}
		require.Equal(t, want, got, role)
		require.Len(t, after, len(before)+len(want), role)
	}
	open := plainStack()
	open.Spec.Auth.Registration = "Open"
	require.NotContains(t, variables(t, open, workloads.RoleAPI), "REGISTRATION", "a default of the CRD must change no pod template")
}

// componentStack has every field of the components.
func componentStack() *v1alpha1.AtlasStack {
	stack := plainStack()
	spec := &stack.Spec
	spec.ServiceAccountAnnotations = map[string]string{"iam.gke.io/gcp-service-account": "atlas@project.iam.gserviceaccount.com"}
	spec.API.PriorityClassName = "important"
	spec.API.PodDisruptionBudget = &v1alpha1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromString("50%"))}
	spec.API.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{
		{MaxSkew: 1, TopologyKey: "topology.kubernetes.io/zone", WhenUnsatisfiable: corev1.ScheduleAnyway},
		{
			MaxSkew: 2, TopologyKey: "kubernetes.io/hostname", WhenUnsatisfiable: corev1.DoNotSchedule, MinDomains: ptr.To(int32(3)),
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/part-of": "atlas"}},
		},
	}
	spec.Indexer.PodDisruptionBudget = &v1alpha1.PodDisruptionBudgetSpec{MaxUnavailable: ptr.To(intstr.FromInt32(0))}
	spec.Worker.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m")}
	spec.Worker.PodTemplate = &runtime.RawExtension{Raw: []byte(`{
		"metadata": {"labels": {"team": "search"}, "annotations": {"example.com/inject": "true"}},
		"spec": {
			"nodeSelector": {"disk": "fast"},
			"tolerations": [{"key": "batch", "operator": "Exists"}],
			"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "arch", "operator": "In", "values": ["arm64"]}]}]}}},
			"securityContext": {"runAsUser": 1000},
			"containers": [
				{"name": "atlas", "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}, {"name": "LOG_LEVEL", "value": "debug"}],
				 "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}], "resources": {"limits": {"memory": "1Gi"}}},
				{"name": "sidecar", "image": "example.com/sidecar:1"}
			],
			"volumes": [{"name": "scratch", "emptyDir": {}}]
		}}`)}
	return stack
}

func TestComponents(t *testing.T) {
	t.Parallel()
	stack := componentStack()
	var objects []any
	for _, role := range workloads.Roles() {
		deployment, err := workloads.Deployment(stack, role, plainInputs())
		require.NoError(t, err)
		objects = append(objects, workloads.ServiceAccount(stack, role), workloads.PodDisruptionBudget(stack, role), deployment)
	}
	golden(t, "components", append(objects, workloads.ServiceAccount(stack, workloads.RoleMigrate))...)
}

func TestPodTemplateThatCantBeUsed(t *testing.T) {
	t.Parallel()
	for template, want := range map[string]string{
		`{"spec": {"nodeSelectr": {}}}`:                                                              `unknown field "spec.nodeSelectr"`,
		`{"spec": {"containers": [{"name": "atlas", "imagePullpolicy": "Never"}]}}`:                  `unknown field "spec.containers[0].imagePullpolicy"`,
		`{"spec": {"priority": "high"}}`:                                                             "spec.priority",
		`{"spec": {"containers": "none"}}`:                                                           "correct the field",
		`{"spec": {"containers": [{"image": "x:1"}]}}`:                                               "merge key: name",
		`{"spec": {"containers": [null]}}`:                                                           "spec.worker.podTemplate",
		`{"spec": {"containers": ["x"]}}`:                                                            "spec.worker.podTemplate",
		`{"spec": {"containers": [{"name": "atlas", "resources": {"limits": {"memory": "much"}}}]}}`: "quantities",
		`{"spec": null}`: "removes spec",
		`{"spec": {"containers": [{"name": "atlas", "$patch": "delete"}]}}`: "removes the container atlas",
		`{"spec": {"containers": [{"name": "atlas", "image": "other:1"}]}}`: "set spec.image",
		`{"spec": {"containers": [{"name": "atlas", "image": null}]}}`:      "set spec.image",
		`{"metadata": {"labels": {"app.kubernetes.io/component": "mine"}}}`: "the label app.kubernetes.io/component",
		`{"metadata": {"labels": {"app.kubernetes.io/name": null}}}`:        "the label app.kubernetes.io/name",
		`{"metadata": {"labels": {"platform.atlas.dev/stack": "other"}}}`:   "the label platform.atlas.dev/stack",
		`{"metadata": null}`: "the label app.kubernetes.io/name",
		`{"metadata": {"annotations": {"platform.atlas.dev/config-hash": "0"}}}`: "the annotation platform.atlas.dev/config-hash",
		`{"metadata": {"annotations": {"$patch": "replace", "mine": "0"}}}`:      "the annotation platform.atlas.dev/config-hash",
		`[]`:                           "can't be merged",
		`"text"`:                       "can't be merged",
		`{"$patch": "explode"}`:        "can't be merged",
		`{"spec": {"$patch": "what"}}`: "can't be merged",
	} {
		stack := plainStack()
		stack.Spec.Worker.PodTemplate = &runtime.RawExtension{Raw: []byte(template)}
		_, err := workloads.Deployment(stack, workloads.RoleWorker, plainInputs())
		var refused *workloads.TemplateError
		require.ErrorAs(t, err, &refused, template)
		require.ErrorContains(t, err, "spec.worker.podTemplate", template)
		require.ErrorContains(t, err, want, template)
	}
}

func TestPodTemplateThatSaysNothingChangesNothing(t *testing.T) {
	t.Parallel()
	want, err := workloads.Deployment(plainStack(), workloads.RoleWorker, plainInputs())
	require.NoError(t, err)
	for _, template := range []string{``, `{}`, `null`, `{"metadata": {}, "spec": {}}`, `{"metadata": {"creationTimestamp": null}, "spec": {"containers": []}}`} {
		stack := plainStack()
		stack.Spec.Worker.PodTemplate = &runtime.RawExtension{Raw: []byte(template)}
		got, err := workloads.Deployment(stack, workloads.RoleWorker, plainInputs())
		require.NoError(t, err, template)
		require.Equal(t, want, got, template)
	}
}

// FuzzPodTemplate looks for templates that the builder can't bear.
func FuzzPodTemplate(f *testing.F) {
	f.Add(`{"spec": {"containers": [{"name": "atlas", "env": [{"name": "A", "value": "b"}], "$patch": "merge"}]}}`)
	f.Add(`{"spec": {"$setElementOrder/containers": [{"name": "x"}], "$retainKeys": ["a"], "volumes": [{"name": "tmp", "$retainKeys": ["emptyDir"]}]}}`)
	f.Add(`{"spec": {"$deleteFromPrimitiveList/x": [1], "tolerations": [null], "containers": [[]]}}`)
	f.Fuzz(func(t *testing.T, template string) {
		stack := plainStack()
		stack.Spec.Worker.PodTemplate = &runtime.RawExtension{Raw: []byte(template)}
		deployment, err := workloads.Deployment(stack, workloads.RoleWorker, plainInputs())
		if err == nil {
			require.Equal(t, "worker", deployment.Spec.Template.Labels["app.kubernetes.io/component"])
			return
		}
		var refused *workloads.TemplateError
		require.ErrorAs(t, err, &refused)
	})
}
