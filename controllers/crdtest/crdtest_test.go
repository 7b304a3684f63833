package crdtest_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/atlas-platform/atlas/controllers/crdtest"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// TestManifestsAreValid has a real API server judge everything that the operator makes, also of kinds that other projects define. Fields that a kind does not have would
// otherwise be dropped without a word.
func TestManifestsAreValid(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.EnvtestAssets)
	env := &envtest.Environment{}
	for _, kind := range []string{crdtest.HTTPRoute, crdtest.ServiceMonitor, crdtest.PodMonitor, crdtest.ScaledObject, crdtest.TriggerAuthentication} {
		crd, err := crdtest.Read(t.Context(), kind)
		require.NoError(t, err)
		env.CRDs = append(env.CRDs, crd)
	}
	config, err := env.Start()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, env.Stop()) })
	c, err := client.New(config, client.Options{})
	require.NoError(t, err)

	files, err := filepath.Glob(filepath.Join("..", "workloads", "testdata", "*.yaml"))
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		documents := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
		for {
			object := &unstructured.Unstructured{}
			err := documents.Decode(object)
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, file)
			if object.Object == nil {
				continue
			}
			seen[object.GetKind()] = true
			name := object.GetKind() + " " + object.GetName()
			object.SetNamespace(metav1.NamespaceDefault)
			require.NoError(t, c.Create(t.Context(), object, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict)), "%s in %s", name, file)
		}
	}
	for _, kind := range []string{
		"Deployment", "Job", "ServiceAccount", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy", "Ingress", "ConfigMap",
		crdtest.HTTPRoute, crdtest.ServiceMonitor, crdtest.PodMonitor, crdtest.ScaledObject, crdtest.TriggerAuthentication,
	} {
		require.True(t, seen[kind], "no manifest has a %s", kind)
	}
}
