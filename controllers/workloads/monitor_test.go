package workloads_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// TestIntervalIsOneThatPrometheusReads: it has no fractions, and refuses the whole object for one.
func TestIntervalIsOneThatPrometheusReads(t *testing.T) {
	t.Parallel()
	for interval, want := range map[time.Duration]string{15 * time.Second: "15s", 90 * time.Second: "1m30s", 1500 * time.Millisecond: "1500ms", 500 * time.Millisecond: "500ms"} {
		stack := &v1alpha1.AtlasStack{}
		stack.Spec.Observability.Monitor = &v1alpha1.MonitorSpec{Kind: workloads.PodMonitor, Interval: &metav1.Duration{Duration: interval}}
		spec := workloads.Monitor(stack, workloads.PodMonitor).Object["spec"].(map[string]any)
		require.Equal(t, want, spec["podMetricsEndpoints"].([]any)[0].(map[string]any)["interval"])
	}
}
