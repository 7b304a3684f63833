package atlasjob

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
)

// TestAJobOfAScheduleIsKeptUntilItIsCounted: the schedule would make one that is gone again.
func TestAJobOfAScheduleIsKeptUntilItIsCounted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	schedule := &platformv1alpha1.AtlasSchedule{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "hourly"},
		Spec: platformv1alpha1.AtlasScheduleSpec{
			Schedule: "0 * * * *", JobTemplate: platformv1alpha1.AtlasJobTemplate{Spec: platformv1alpha1.AtlasJobDefinition(newJob(b.namespace).Spec)},
		},
	}
	require.NoError(t, b.client.Create(t.Context(), schedule))
	tick := b.now.Truncate(time.Hour)
	job := newJob(b.namespace)
	job.Annotations = map[string]string{platformv1alpha1.ScheduledAtAnnotation: tick.Format(time.RFC3339)}
	job.Spec.TTLSecondsAfterFinished = new(int32(0))
	require.NoError(t, controllerutil.SetControllerReference(schedule, job, testScheme, controllerutil.WithBlockOwnerDeletion(false)))
	b.create(job)
	b.api.set(map[string]any{"state": "SUCCEEDED", "finished_at": b.now.Add(-time.Minute)})
	for range 4 {
		_, _, err := b.reconcile(job)
		require.NoError(t, err)
	}
	kept := b.read(job)
	require.NotNil(t, kept, "its schedule has not counted it")
	require.Equal(t, platformv1alpha1.AtlasJobSucceeded, kept.Status.Phase)

	schedule.Status.LastScheduleTime = &metav1.Time{Time: tick}
	require.NoError(t, b.client.Status().Update(t.Context(), schedule))
	for range 2 {
		_, _, err := b.reconcile(job)
		require.NoError(t, err)
	}
	require.Nil(t, b.read(job))
}
