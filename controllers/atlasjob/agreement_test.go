package atlasjob

import (
	"context"
	"encoding/json"
	"os"
	"strconv"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/internal/event"
)

// number is what an environment variable asks for.
func number(variable string) (n uint64, asked bool) {
	n, err := strconv.ParseUint(os.Getenv(variable), 10, 64)
	return n, err == nil
}

// born is what is known of every AtlasJob there ever was, by UID.
type born map[string]*birth

type birth struct {
	name string
	// wanted says that it was not suspended at some time: else it may have no job.
	wanted bool
}

func (w *world) list(t require.TestingT) []platformv1alpha1.AtlasJob {
	var all platformv1alpha1.AtlasJobList
	require.NoError(t, w.client.List(context.Background(), &all, client.InNamespace(w.namespace)))
	return all.Items
}

// requireSafe is what holds at every moment.
func (w *world) requireSafe(t require.TestingT, known born) {
	living := map[string]bool{}
	rows := w.rows(t)
	for _, job := range w.list(t) {
		living[string(job.UID)] = true
		row := rows[string(job.UID)]
		if job.Status.JobID != "" {
			require.Equal(t, row.ID.String(), job.Status.JobID, job.Name)
		}
		if finished(&job) {
			require.Equal(t, phases[row.State], job.Status.Phase, "the outcome of %s", job.Name)
		}
	}
	for uid, row := range rows {
		require.Contains(t, known, uid, "a job of no AtlasJob")
		require.True(t, known[uid].wanted, "%s was suspended all the time and has a job", known[uid].name)
		require.True(t, living[uid] || row.final(), "%s is gone and its job is %s", known[uid].name, row.State)
	}
}

var phases = map[string]platformv1alpha1.AtlasJobPhase{
	"QUEUED": platformv1alpha1.AtlasJobQueued, "RUNNING": platformv1alpha1.AtlasJobRunning, "SUCCEEDED": platformv1alpha1.AtlasJobSucceeded,
	"FAILED": platformv1alpha1.AtlasJobFailed, "CANCELLED": platformv1alpha1.AtlasJobCancelled,
}

// requireAgreement is what holds once everything has come to rest: each AtlasJob says what its job's row says, and there is no job beside that goes on.
func (w *world) requireAgreement(t require.TestingT, known born) {
	w.requireSafe(t, known)
	rows := w.rows(t)
	for _, job := range w.list(t) {
		row, found := rows[string(job.UID)]
		require.Zero(t, job.DeletionTimestamp, "%s was deleted and is still there", job.Name)
		require.Equal(t, job.Generation, job.Status.ObservedGeneration, job.Name)
		for _, condition := range job.Status.Conditions {
			require.Equal(t, job.Generation, condition.ObservedGeneration, "%s: %s", job.Name, condition.Type)
		}
		if !found {
			require.True(t, job.Spec.Suspend, "%s has no job", job.Name)
			require.Equal(t, platformv1alpha1.AtlasJobSuspended, job.Status.Phase, job.Name)
			require.Empty(t, job.Status.JobID, job.Name)
			continue
		}
		require.Equal(t, row.ID.String(), job.Status.JobID, job.Name)
		require.Equal(t, row.Attempt, job.Status.Attempts, job.Name)
		if !row.final() {
			require.Equal(t, job.Spec.Suspend, row.Held, "%s: its job is paused as spec.suspend says", job.Name)
			require.False(t, row.CancelRequested, job.Name)
			require.False(t, job.Spec.Suspend && row.State == "RUNNING", "%s is suspended and runs", job.Name)
		}
		w.requireStatus(t, &job, row)
	}
	w.requireEvents(t, rows)
}

// requireStatus compares the phase and the conditions, which kstatus has to understand, with the row.
func (w *world) requireStatus(t require.TestingT, job *platformv1alpha1.AtlasJob, r row) {
	phase, kstatus, ready := phases[r.State], status.InProgressStatus, metav1.ConditionFalse
	outcome := map[string]bool{platformv1alpha1.ConditionComplete: r.State == "SUCCEEDED", platformv1alpha1.ConditionFailed: r.State == "FAILED" || r.State == "CANCELLED"}
	switch {
	case r.State == "SUCCEEDED":
		kstatus, ready = status.CurrentStatus, metav1.ConditionTrue
	case r.final():
		kstatus = status.FailedStatus
	case r.State == "QUEUED" && r.Held:
		phase = platformv1alpha1.AtlasJobSuspended
	}
	require.Equal(t, phase, job.Status.Phase, job.Name)
	require.Equal(t, kstatus, kstatusOf(t, job), job.Name)
	require.True(t, meta.IsStatusConditionPresentAndEqual(job.Status.Conditions, platformv1alpha1.ConditionReady, ready), job.Name)
	for kind, expected := range outcome {
		require.Equal(t, expected, meta.IsStatusConditionTrue(job.Status.Conditions, kind), "%s: %s", job.Name, kind)
	}
	require.Equal(t, r.Error != nil, job.Status.Error != nil, "%s: an error", job.Name)
	require.Equal(t, r.final(), job.Status.CompletionTime != nil, "%s: completionTime", job.Name)
	if r.final() {
		require.Equal(t, r.FinishedAt.Unix(), job.Status.CompletionTime.Unix(), job.Name)
		require.NotContains(t, job.Finalizers, finalizer, job.Name)
	}
}

// requireEvents compares each job's events in the outbox with its row: JobCreated, then a JobUpdated for each change, and the last one is the row.
func (w *world) requireEvents(t require.TestingT, rows map[string]row) {
	found, err := w.pool.Query(context.Background(), "SELECT payload FROM outbox ORDER BY id")
	require.NoError(t, err)
	payloads, err := pgx.CollectRows(found, pgx.RowTo[[]byte])
	require.NoError(t, err)
	last := map[uuid.UUID]event.JobData{}
	for _, payload := range payloads {
		e, err := event.Decode(payload)
		require.NoError(t, err)
		var data event.JobData
		require.NoError(t, json.Unmarshal(e.Data, &data))
		before, known := last[data.JobID]
		require.Equal(t, known, e.EventType == event.JobUpdated, "the first is JobCreated, the others are not")
		require.Greater(t, data.EntityVersion, before.EntityVersion)
		require.NotContains(t, []string{"SUCCEEDED", "FAILED", "CANCELLED"}, before.State, "nothing comes after the outcome")
		last[data.JobID] = data
	}
	require.Len(t, last, len(rows))
	for _, row := range rows {
		data := last[row.ID]
		require.Equal(t, []any{row.State, row.Held, row.Attempt}, []any{data.State, data.Held, int32(data.Attempt)}, "the last event of a job is its row")
		if row.State != "RUNNING" { // progress is a version without an event, and so is being asked to stop
			require.Equal(t, row.Version, data.EntityVersion)
		}
	}
}
