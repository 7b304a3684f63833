package atlasschedule

import (
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
)

// kstatusOf is what kubectl wait, Helm and GitOps tools make of an AtlasSchedule.
func kstatusOf(t *testing.T, schedule *platformv1alpha1.AtlasSchedule) status.Status {
	t.Helper()
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(schedule)
	require.NoError(t, err)
	result, err := status.Compute(&unstructured.Unstructured{Object: object})
	require.NoError(t, err)
	return result.Status
}

// TestKstatusOfASchedule: one that the controller has not seen, at all or as it is now, isn't Current.
func TestKstatusOfASchedule(t *testing.T) {
	t.Parallel()
	b := setup(t)
	schedule := b.create(nil)
	require.NoError(t, b.client.Get(t.Context(), client.ObjectKeyFromObject(schedule), schedule))
	require.Equal(t, status.InProgressStatus, kstatusOf(t, schedule))

	schedule, _, err := b.reconcile()
	require.NoError(t, err)
	require.Equal(t, status.CurrentStatus, kstatusOf(t, schedule))

	schedule.Spec.Schedule = "0 0 30 2 *" // a day that never comes
	require.NoError(t, b.client.Update(t.Context(), schedule))
	require.Equal(t, status.InProgressStatus, kstatusOf(t, schedule))
	schedule, _, err = b.reconcile()
	require.NoError(t, err)
	require.Equal(t, status.FailedStatus, kstatusOf(t, schedule))
}
