package atlasjob

import (
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestAJobThatNobodyHasSeenIsNotCurrent: a tool that goes by kstatus would take it for done.
func TestAJobThatNobodyHasSeenIsNotCurrent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := newJob(b.namespace)
	b.create(job)
	require.Equal(t, status.InProgressStatus, kstatusOf(t, job), "as it was answered")
	require.NoError(t, b.client.Get(t.Context(), client.ObjectKeyFromObject(job), job))
	require.Equal(t, status.InProgressStatus, kstatusOf(t, job), "as it is stored")
	job, _, err := b.reconcile(job)
	require.NoError(t, err)
	require.Equal(t, job.Generation, job.Status.ObservedGeneration)
	require.Equal(t, status.InProgressStatus, kstatusOf(t, job))
}
