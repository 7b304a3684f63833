package atlasjob

import (
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
)

// TestARunningJobSaysWhatItDoes: all of its units may be done long before it is.
func TestARunningJobSaysWhatItDoes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := newJob(b.namespace)
	b.create(job)
	progress := func(message any) map[string]any { return map[string]any{"done": 100, "total": 100, "message": message} }
	for range 2 {
		_, _, err := b.reconcile(job)
		require.NoError(t, err)
	}
	for _, tc := range []struct {
		doing any
		says  string
	}{
		{nil, "A worker runs the job."},
		{"comparing the new index with the items", "A worker runs the job: comparing the new index with the items."},
		{"waiting for searches", "A worker runs the job: waiting for searches."},
	} {
		b.api.set(map[string]any{"state": "RUNNING", "progress": progress(tc.doing)})
		running, _, err := b.reconcile(job)
		require.NoError(t, err)
		require.Equal(t, "100/100", running.Status.Progress.Summary)
		requireCondition(t, running, platformv1alpha1.ConditionReady, metav1.ConditionFalse, reasonRunning, tc.says)
		requireCondition(t, running, platformv1alpha1.ConditionReconciling, metav1.ConditionTrue, reasonRunning, tc.says)
	}
}
