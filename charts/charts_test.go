// Package charts checks that what Helm and kustomize install is the same, is generated from the code, and is what an API server takes.
package charts

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/atlas-platform/atlas/internal/testenv"
)

const (
	root      = ".."
	chart     = "atlas-operator"
	namespace = "atlas-system"
)

func TestChartHoldsCopiesOfWhatIsGenerated(t *testing.T) {
	t.Parallel()
	crds, err := filepath.Glob(filepath.Join(root, "config", "crd", "platform.atlas.dev_*.yaml"))
	require.NoError(t, err)
	require.Len(t, crds, 3)
	copies, err := filepath.Glob(filepath.Join(chart, "files", "crd", "*"))
	require.NoError(t, err)
	require.Len(t, copies, len(crds), "a file in files/crd that isn't in config/crd")

	same := map[string]string{filepath.Join(root, "config", "rbac", "role.yaml"): filepath.Join(chart, "files", "role.yaml")}
	for _, crd := range crds {
		same[crd] = filepath.Join(chart, "files", "crd", filepath.Base(crd))
	}
	for original, copied := range same {
		want, err := os.ReadFile(original)
		require.NoError(t, err)
		got, err := os.ReadFile(copied)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "%s is stale: run `make generate`", copied)
	}
}

func TestHelmAndKustomizeInstallTheSame(t *testing.T) {
	t.Parallel()
	fromHelm := byName(t, helm(t))
	fromKustomize := byName(t, kustomize(t, "default"))
	delete(fromKustomize, "v1 Namespace /"+namespace) // helm --create-namespace makes it

	for name, want := range fromKustomize {
		require.Contains(t, fromHelm, name, "only kustomize installs it")
		got := fromHelm[name]
		if got.GetKind() == "CustomResourceDefinition" {
			annotations := got.GetAnnotations()
			require.Equal(t, "keep", annotations["helm.sh/resource-policy"], "uninstalling must not delete every AtlasStack")
			delete(annotations, "helm.sh/resource-policy")
			got.SetAnnotations(annotations)
		}
		labels := got.GetLabels()
		delete(labels, "helm.sh/chart")
		delete(labels, "app.kubernetes.io/managed-by")
		got.SetLabels(labels)
		if got.GetKind() == "CustomResourceDefinition" { // too long to print
			require.True(t, equality.Semantic.DeepEqual(want.Object, got.Object), "%s differs", name)
			continue
		}
		require.Equal(t, want.Object, got.Object, name)
	}
	for name := range fromHelm {
		require.Contains(t, fromKustomize, name, "only Helm installs it")
	}
}

func TestChartValues(t *testing.T) {
	t.Parallel()
	t.Run("watchNamespaces gives Roles, and a ClusterRole for finalizers only", func(t *testing.T) {
		t.Parallel()
		objects := byName(t, helm(t, "--set", "watchNamespaces={team-a,team-b}"))
		everywhere := byName(t, helm(t))["rbac.authorization.k8s.io/v1 ClusterRole /atlas-operator"]
		for _, watched := range []string{"team-a", "team-b"} {
			role := objects["rbac.authorization.k8s.io/v1 Role "+watched+"/atlas-operator"]
			require.NotNil(t, role)
			require.Equal(t, everywhere.Object["rules"], role.Object["rules"])
			binding := objects["rbac.authorization.k8s.io/v1 RoleBinding "+watched+"/atlas-operator"]
			require.NotNil(t, binding)
			require.Equal(t, []any{map[string]any{"kind": "ServiceAccount", "name": "atlas-operator", "namespace": namespace}}, binding.Object["subjects"])
		}
		const finalizers = namespace + "-atlas-operator-finalizers"
		outlives := objects["rbac.authorization.k8s.io/v1 ClusterRole /"+finalizers]
		require.NotNil(t, outlives)
		require.Equal(t, []any{map[string]any{
			"apiGroups": []any{"platform.atlas.dev"}, "resources": []any{"atlasstacks", "atlasjobs"}, "verbs": []any{"patch"},
		}}, outlives.Object["rules"])
		limit := objects["admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy /"+finalizers]
		require.NotNil(t, limit)
		require.Contains(t, objects, "admissionregistration.k8s.io/v1 ValidatingAdmissionPolicyBinding /"+finalizers)
		validations, _, err := unstructured.NestedSlice(limit.Object, "spec", "validations")
		require.NoError(t, err)
		require.Equal(t, "request.namespace in ['team-a', 'team-b']", validations[0].(map[string]any)["expression"])
		for name := range objects {
			require.NotEqual(t, "rbac.authorization.k8s.io/v1 ClusterRole /atlas-operator", name)
			if strings.Contains(name, " ClusterRoleBinding ") {
				require.Equal(t, "rbac.authorization.k8s.io/v1 ClusterRoleBinding /"+finalizers, name)
			}
		}
		require.Contains(t, container(t, objects)["args"], "--watch-namespaces=team-a,team-b")
	})
	t.Run("watchNamespaces can do without anything of the whole cluster", func(t *testing.T) {
		t.Parallel()
		for name := range byName(t, helm(t, "--set", "watchNamespaces={team-a},crds.install=false,rbac.namespaceDeletion=false,rbac.aggregateToDefaultRoles=false")) {
			require.NotContains(t, name, " /")
		}
	})
	t.Run("a digest wins over the tag", func(t *testing.T) {
		t.Parallel()
		digest := "sha256:" + strings.Repeat("0a", 32)
		objects := byName(t, helm(t, "--set", "image.tag=v1", "--set", "image.digest="+digest))
		require.Equal(t, "localhost/atlas-operator@"+digest, container(t, objects)["image"])
	})
	t.Run("the tag is the appVersion unless it is set", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, "registry.example/operator:0.1.0", container(t, byName(t, helm(t, "--set", "image.repository=registry.example/operator")))["image"])
	})
	t.Run("CRDs, roles, metrics and the ServiceAccount can be left to someone else", func(t *testing.T) {
		t.Parallel()
		objects := byName(t, helm(t, "--set", "crds.install=false,rbac.create=false,rbac.aggregateToDefaultRoles=false,metrics.enabled=false,serviceAccount.create=false,serviceAccount.name=own"))
		require.Len(t, objects, 1)
		require.Contains(t, container(t, objects)["args"], "--metrics-bind-address=0")
	})
	for name, c := range map[string]struct{ set, says string }{
		"a misspelt value":        {"watchNamespace=x", "watchNamespace"},
		"a digest without sha256": {"image.digest=abc", "digest"},
		"a namespace in capitals": {"watchNamespaces={Team}", "watchNamespaces"},
		"no ServiceAccount":       {"serviceAccount.create=false", "set serviceAccount.name"},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			_, err := render(t, "--set", c.set)
			require.ErrorContains(t, err, c.says)
		})
	}
}

// TestAPIServerTakesAll installs the chart and the samples into a real API server.
func TestAPIServerTakesAll(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.EnvtestAssets)
	scheme := runtime.NewScheme()
	require.NoError(t, apiextensionsv1.AddToScheme(scheme))
	env := &envtest.Environment{Scheme: scheme}
	config, err := env.Start()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, env.Stop()) })
	warnings := &warnings{}
	config.WarningHandler = warnings
	k8s, err := client.New(config, client.Options{Scheme: scheme})
	require.NoError(t, err)
	apply := func(objects []*unstructured.Unstructured) {
		t.Helper()
		for _, object := range objects {
			err := k8s.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("test"), client.ForceOwnership)
			require.NoError(t, err, "%s %s", object.GetKind(), object.GetName())
		}
	}

	// kustomize first, for the namespace; with these labels the API server warns of pods that are not restricted.
	fromKustomize := kustomize(t, "default")
	for _, object := range fromKustomize {
		if object.GetKind() == "Namespace" {
			labels := object.GetLabels()
			require.Equal(t, "restricted", labels["pod-security.kubernetes.io/enforce"])
			labels["pod-security.kubernetes.io/warn"] = "restricted"
			object.SetLabels(labels)
		}
	}
	apply(fromKustomize)
	apply(helm(t))
	require.NoError(t, envtest.WaitForCRDs(config, crdsOf(t, fromKustomize), envtest.CRDInstallOptions{}))
	apply(kustomize(t, "samples"))
	job, err := os.ReadFile(filepath.Join(root, "config", "samples", "platform_v1alpha1_atlasjob.yaml"))
	require.NoError(t, err)
	apply(decode(t, job))
	require.Empty(t, warnings.all(), "deprecated fields, unknown fields or pods that are not restricted")
}

// helm renders the chart as the release atlas-operator in atlas-system.
func helm(t *testing.T, arguments ...string) []*unstructured.Unstructured {
	t.Helper()
	output, err := render(t, arguments...)
	require.NoError(t, err)
	return decode(t, output)
}

func render(t *testing.T, arguments ...string) ([]byte, error) {
	t.Helper()
	command := []string{"template", "atlas-operator", "charts/" + chart, "--namespace", namespace}
	return run(t.Context(), testenv.Require(t, testenv.Helm), append(command, arguments...)...)
}

func kustomize(t *testing.T, folder string) []*unstructured.Unstructured {
	t.Helper()
	kubectl := filepath.Join(testenv.Require(t, testenv.EnvtestAssets), "kubectl")
	output, err := run(t.Context(), kubectl, "kustomize", "config/"+folder)
	require.NoError(t, err)
	return decode(t, output)
}

func run(ctx context.Context, name string, arguments ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, name, arguments...)
	command.Dir = root
	var output, complaints bytes.Buffer
	command.Stdout, command.Stderr = &output, &complaints
	if err := command.Run(); err != nil {
		return nil, errors.Join(err, errors.New(complaints.String()))
	}
	return output.Bytes(), nil
}

func decode(t *testing.T, content []byte) []*unstructured.Unstructured {
	t.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	var objects []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return objects
		}
		require.NoError(t, err)
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

func byName(t *testing.T, objects []*unstructured.Unstructured) map[string]*unstructured.Unstructured {
	t.Helper()
	out := map[string]*unstructured.Unstructured{}
	for _, object := range objects {
		name := object.GetAPIVersion() + " " + object.GetKind() + " " + object.GetNamespace() + "/" + object.GetName()
		require.NotContains(t, out, name, "twice")
		out[name] = object
	}
	return out
}

// container is the operator's container.
func container(t *testing.T, objects map[string]*unstructured.Unstructured) map[string]any {
	t.Helper()
	deployment := objects["apps/v1 Deployment "+namespace+"/atlas-operator"]
	require.NotNil(t, deployment)
	containers, found, err := unstructured.NestedSlice(deployment.Object, "spec", "template", "spec", "containers")
	require.NoError(t, err)
	require.True(t, found)
	require.Len(t, containers, 1)
	return containers[0].(map[string]any)
}

func crdsOf(t *testing.T, objects []*unstructured.Unstructured) []*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	var crds []*apiextensionsv1.CustomResourceDefinition
	for _, object := range objects {
		if object.GetKind() != "CustomResourceDefinition" {
			continue
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, crd))
		crds = append(crds, crd)
	}
	return crds
}

// warnings collects what the API server warns of.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

var _ rest.WarningHandler = (*warnings)(nil)

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, text)
}

func (w *warnings) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string{}, w.texts...)
}
