package atlasjob

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
)

// TestAnAPIThatIsAwayForMinutesOnlyDelays has the API away before the job is submitted, and while it runs, each time for as many calls as the operator
// makes in four minutes, and for whatever is done to the AtlasJob meanwhile. An hour takes 18 s here.
func TestAnAPIThatIsAwayForMinutesOnlyDelays(t *testing.T) {
	t.Parallel()
	const pace = 0.005
	calls, minutes := 0, time.Duration(0)
	for wait := minBackoff; minutes < 4*time.Minute; wait = min(2*wait, maxBackoff) {
		calls, minutes = calls+1, minutes+wait
	}
	w := newWorld(t)
	w.work()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.operator(ctx, pace, &life{left: math.MaxInt64}) }()
	defer func() { stop(); <-done }()
	away := func() {
		w.refused.Store(0)
		w.down.Store(true)
		w.eventually("the API was away for minutes", func() bool { return w.refused.Load() >= int64(calls) })
	}
	job := newJob(w.namespace)
	job.Spec.MaxAttempts = new(int32(goesOn))
	says := func(phase platformv1alpha1.AtlasJobPhase, ready metav1.ConditionStatus, reason string) func() bool {
		return func() bool {
			job = w.read(job)
			condition := meta.FindStatusCondition(job.Status.Conditions, condReady)
			return job.Status.Phase == phase && condition.Status == ready && condition.Reason == reason
		}
	}

	w.down.Store(true)
	w.create(job)
	away()
	w.eventually("it was not submitted", says(platformv1alpha1.AtlasJobPending, metav1.ConditionFalse, platformv1alpha1.ReasonUnreachable))
	require.Empty(t, w.rows(t))
	w.down.Store(false)
	w.eventually("it runs", says(platformv1alpha1.AtlasJobRunning, metav1.ConditionFalse, reasonRunning))

	away()
	w.eventually("what was known stays", says(platformv1alpha1.AtlasJobRunning, metav1.ConditionUnknown, platformv1alpha1.ReasonUnreachable))
	job = w.read(job)
	job.Spec.Suspend = true
	require.NoError(t, w.client.Update(t.Context(), job))
	away()
	require.Equal(t, "RUNNING", w.rows(t)[string(job.UID)].State)
	w.down.Store(false)
	w.eventually("it is suspended", says(platformv1alpha1.AtlasJobSuspended, metav1.ConditionFalse, reasonSuspended))

	job.Spec.Suspend = false
	require.NoError(t, w.client.Update(t.Context(), job))
	w.eventually("it goes on", says(platformv1alpha1.AtlasJobRunning, metav1.ConditionFalse, reasonRunning))
	require.Len(t, w.rows(t), 1)
}

func (w *world) eventually(what string, met func() bool) {
	w.t.Helper()
	require.Eventually(w.t, met, agreementTimeout, 5*time.Millisecond, what)
}
