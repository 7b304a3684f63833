package atlasstack

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// TestABusyServerIsNoVerdict: when a deletion has taken long enough, a stack that found others asking the server has not tried yet. It does not wait for them for good.
func TestABusyServerIsNoVerdict(t *testing.T) {
	t.Parallel()
	settled := func(age time.Duration) *ending {
		e := &ending{pass: &pass{stack: &v1alpha1.AtlasStack{}, memory: &remembered{}, inputs: workloads.Inputs{}}, age: age, after: cleanupPoll}
		require.NoError(t, (&Reconciler{}).settle(t.Context(), e, "kafka", "the topics", func(context.Context, *pass) error { return busy{} }))
		return e
	}
	e := settled(cleanupPatience)
	require.Empty(t, e.left)
	require.Equal(t, []string{busy{}.Error()}, e.waiting)
	require.Equal(t, busyRetry, e.after)
	e = settled(cleanupPatience + time.Minute)
	require.Empty(t, e.waiting)
	require.Equal(t, []string{"the topics (" + busy{}.Error() + ")"}, e.left)
}
