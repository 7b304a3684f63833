package atlasstack_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// TestVersionOfTheSpec is told instead of the image's, and changing it starts neither a pod nor a migration.
func TestVersionOfTheSpec(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	require.Equal(t, "1.0.0", b.bringUp().Status.Version)
	started := func() (out []any) {
		for _, d := range b.deployments() {
			out = append(out, d.Name, d.Generation)
		}
		jobs := &batchv1.JobList{}
		require.NoError(t, b.client.List(t.Context(), jobs, client.InNamespace(b.namespace)))
		for i := range jobs.Items {
			out = append(out, jobs.Items[i].UID)
		}
		return out
	}
	before := started()

	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Version = "2026-11" })
	b.eventually(func(c *assert.CollectT, stack *v1alpha1.AtlasStack) {
		require.Equal(c, "2026-11", stack.Status.Version)
	})
	b.untilReady()
	require.Equal(t, before, started())

	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Version = "" })
	b.eventually(func(c *assert.CollectT, stack *v1alpha1.AtlasStack) {
		require.Equal(c, "1.0.0", stack.Status.Version)
	})
}
