package atlasstack_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// TestRequestIsHandledAtOnce and looks outside the cluster, where nothing else would have been noticed before the interval is over.
func TestRequestIsHandledAtOnce(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	stack := b.bringUp()
	require.Empty(t, stack.Status.LastHandledReconcileAt)
	b.kafka.mu.Lock()
	delete(b.kafka.topics, "atlas.domain-events.v1")
	b.kafka.mu.Unlock()
	b.annotate(v1alpha1.ReconcileRequestAnnotation, "now")
	b.eventually(func(c *assert.CollectT, stack *v1alpha1.AtlasStack) {
		require.Equal(c, "now", stack.Status.LastHandledReconcileAt)
		state, err := b.kafka.Describe(t.Context(), "atlas.domain-events.v1")
		require.NoError(c, err)
		require.NotNil(c, state)
	})

	// A paused stack handles nothing, and does once it isn't.
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Paused = true })
	b.condition(v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonPaused, "paused")
	b.annotate(v1alpha1.ReconcileRequestAnnotation, "later")
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.LogLevel = "debug" })
	stack = b.condition(v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonPaused, "paused")
	require.Equal(t, "now", stack.Status.LastHandledReconcileAt)
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.Paused = false })
	require.Equal(t, "later", b.untilReady().Status.LastHandledReconcileAt)
}

func (b *bundle) annotate(name, value string) {
	b.t.Helper()
	stack := &v1alpha1.AtlasStack{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: stackName}}
	patch := []byte(`{"metadata":{"annotations":{"` + name + `":"` + value + `"}}}`)
	require.NoError(b.t, b.client.Patch(b.t.Context(), stack, client.RawPatch("application/merge-patch+json", patch)))
}
