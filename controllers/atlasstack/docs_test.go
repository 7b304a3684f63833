package atlasstack_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// TestPrintedManifestsAreValid has the API server look at every part of an AtlasStack that docs/operator.md prints, merged over the smallest stack, strictly:
// a field that it does not know is an error.
func TestPrintedManifestsAreValid(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operator.md"))
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?ms)^```yaml\n(spec:\n.*?)^```$").FindAllSubmatch(page, -1)
	require.GreaterOrEqual(t, len(blocks), 8, "the page has lost its manifests")
	base, err := runtime.DefaultUnstructuredConverter.ToUnstructured(b.stack())
	require.NoError(t, err)
	for _, block := range blocks {
		var part map[string]any
		require.NoError(t, yaml.UnmarshalStrict(block[1], &part), "%s", block[1])
		stack := &unstructured.Unstructured{Object: mergeMaps(runtime.DeepCopyJSON(base), part)}
		if addresses, found, _ := unstructured.NestedFieldNoCopy(stack.Object, "spec", "elasticsearch", "cloudID"); found && addresses != nil {
			unstructured.RemoveNestedField(stack.Object, "spec", "elasticsearch", "addresses")
		}
		stack.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("AtlasStack"))
		require.NoError(t, b.client.Create(t.Context(), stack, client.DryRunAll, client.FieldValidation("Strict")), "%s", block[1])

		// What the operator makes of it is valid too.
		typed := &v1alpha1.AtlasStack{}
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(stack.Object, typed))
		typed.UID = "11111111-2222-3333-4444-555555555555"
		for _, role := range workloads.Roles() {
			deployment, err := workloads.Deployment(typed, role, workloads.Inputs{workloads.DatabaseURL: []byte(databaseURL), workloads.SigningKey: []byte("k")})
			require.NoError(t, err, "%s", block[1])
			require.NoError(t, b.client.Apply(t.Context(), deployment, client.DryRunAll, client.FieldOwner("test")), "%s", block[1])
			if workloads.AutoscalerOf(typed, role) == workloads.HorizontalAutoscaler {
				scaler, err := workloads.HorizontalPodAutoscaler(typed, role)
				require.NoError(t, err)
				require.NoError(t, b.client.Apply(t.Context(), scaler, client.DryRunAll, client.FieldOwner("test")), "%s", block[1])
			}
			require.NoError(t, b.client.Apply(t.Context(), workloads.PodDisruptionBudget(typed, role), client.DryRunAll, client.FieldOwner("test")))
		}
	}
}

// mergeMaps merges as kubectl patch --type=merge does.
func mergeMaps(into, from map[string]any) map[string]any {
	for key, value := range from {
		if below, ok := value.(map[string]any); ok {
			above, _ := into[key].(map[string]any)
			if above == nil {
				above = map[string]any{}
			}
			into[key] = mergeMaps(above, below)
			continue
		}
		into[key] = value
	}
	return into
}
