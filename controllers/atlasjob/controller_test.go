package atlasjob

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
)

const (
	condReady       = platformv1alpha1.ConditionReady
	condReconciling = platformv1alpha1.ConditionReconciling
	condStalled     = platformv1alpha1.ConditionStalled
	condComplete    = platformv1alpha1.ConditionComplete
	condFailed      = platformv1alpha1.ConditionFailed
)

func TestJobIsSubmittedAndMirrored(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := newJob(b.namespace)
	b.create(job)

	job, result, err := b.reconcile(job)
	require.NoError(t, err)
	require.Equal(t, platformv1alpha1.AtlasJobQueued, job.Status.Phase)
	require.NotEmpty(t, job.Status.JobID)
	require.Equal(t, job.Generation, job.Status.ObservedGeneration)
	require.Equal(t, "2026-01-22T10:00:00Z", job.Status.SubmissionTime.UTC().Format(time.RFC3339))
	require.Nil(t, job.Status.StartTime)
	require.Equal(t, []string{finalizer}, job.Finalizers, "it can't go unseen any more")
	requireCondition(t, job, condReady, metav1.ConditionFalse, "Queued", "waits for a worker")
	requireCondition(t, job, condReconciling, metav1.ConditionTrue, "Queued", "waits for a worker")
	requireNoCondition(t, job, condStalled, condComplete, condFailed)
	require.GreaterOrEqual(t, result.RequeueAfter, pollQueued)
	require.LessOrEqual(t, result.RequeueAfter, 2*pollQueued)

	posts, requests := b.api.seen()
	require.Equal(t, []string{string(job.UID)}, posts)
	require.Equal(t, "/v1/jobs", requests[0].path)
	require.Equal(t, map[string]any{
		"type": "reindex", "parameters": map[string]any{"collection_id": testCollection},
	}, requests[0].body)
	require.Equal(t, "system:operator", requests[0].claims.Subject)
	require.True(t, requests[0].claims.Admin)
	require.Equal(t, time.Minute, requests[0].claims.ExpiresAt.Sub(requests[0].claims.IssuedAt))

	b.api.set(map[string]any{
		"state": "RUNNING", "attempts": 2, "started_at": "2026-01-22T10:00:01Z",
		"progress": map[string]any{"done": 40, "total": 100, "message": "copying"}, "error": map[string]any{"code": "too_slow", "message": "the first try failed"},
	})
	job, result, err = b.reconcile(job)
	require.NoError(t, err)
	require.Equal(t, platformv1alpha1.AtlasJobRunning, job.Status.Phase)
	require.EqualValues(t, 2, job.Status.Attempts)
	require.Equal(t, &platformv1alpha1.AtlasJobProgress{Done: 40, Total: 100, Summary: "40/100", Message: "copying"}, job.Status.Progress)
	require.Equal(t, &platformv1alpha1.AtlasJobError{Code: "too_slow", Message: "the first try failed"}, job.Status.Error)
	require.Equal(t, "2026-01-22T10:00:01Z", job.Status.StartTime.UTC().Format(time.RFC3339))
	requireCondition(t, job, condReconciling, metav1.ConditionTrue, "Running", "")
	require.GreaterOrEqual(t, result.RequeueAfter, pollRunning)
	require.LessOrEqual(t, result.RequeueAfter, 2*pollRunning)

	version := job.ResourceVersion
	job, _, err = b.reconcile(job)
	require.NoError(t, err)
	require.Equal(t, version, job.ResourceVersion, "nothing changed, so nothing is written")

	b.api.set(map[string]any{"state": "SUCCEEDED", "error": nil, "result": map[string]any{"items": 100, "failed": 0, "why": "a < b"}, "progress": map[string]any{"done": 100, "total": 100}, "finished_at": "2026-01-22T10:00:09Z"})
	job, result, err = b.reconcile(job)
	require.NoError(t, err)
	require.Zero(t, result)
	require.Equal(t, platformv1alpha1.AtlasJobSucceeded, job.Status.Phase)
	require.Equal(t, "100/100", job.Status.Progress.Summary)
	require.Nil(t, job.Status.Error)
	require.Equal(t, `failed=0, items=100, why="a < b"`, job.Status.Result)
	require.Empty(t, job.Finalizers, "a finished one is free to go")
	require.Equal(t, "2026-01-22T10:00:09Z", job.Status.CompletionTime.UTC().Format(time.RFC3339))
	requireCondition(t, job, condReady, metav1.ConditionTrue, "Succeeded", "")
	requireCondition(t, job, condComplete, metav1.ConditionTrue, "Succeeded", "")
	requireNoCondition(t, job, condReconciling, condStalled, condFailed)

	_, before := b.api.seen()
	_, result, err = b.reconcile(job)
	require.NoError(t, err)
	require.Zero(t, result)
	posts, after := b.api.seen()
	require.Len(t, posts, 1, "submitted once")
	require.Len(t, after, len(before), "a finished job is not asked for again")

	close(b.events.Events)
	var events []string
	for event := range b.events.Events {
		events = append(events, event)
	}
	require.Equal(t, []string{
		"Normal Queued The job waits for a worker.", "Normal Running A worker runs the job: copying.", "Normal Succeeded The job succeeded.",
	}, events)
}

func TestJobThatDoesNotSucceed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		remote map[string]any
		phase  platformv1alpha1.AtlasJobPhase
		reason string
		says   string
		error  string
		result string
	}{
		"failed": {
			remote: map[string]any{"state": "FAILED", "attempts": 5, "error": map[string]any{"message": "Elasticsearch is full"}, "result": map[string]any{"checked": 7}},
			phase:  platformv1alpha1.AtlasJobFailed, reason: "Failed", says: "Elasticsearch is full", error: "Elasticsearch is full", result: "checked=7",
		},
		"cancelled": {
			remote: map[string]any{"state": "CANCELLED"},
			phase:  platformv1alpha1.AtlasJobCancelled, reason: "Cancelled", says: "was cancelled",
		},
		"failed with a very long error": {
			remote: map[string]any{"state": "FAILED", "error": map[string]any{"message": strings.Repeat("é", 5000)}},
			phase:  platformv1alpha1.AtlasJobFailed, reason: "Failed", says: "éé", error: strings.Repeat("é", maxMessage-1) + "…",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			job := newJob(b.namespace)
			b.create(job)
			b.api.set(c.remote)

			job, result, err := b.reconcile(job)
			require.NoError(t, err)
			require.Zero(t, result)
			require.Equal(t, c.phase, job.Status.Phase)
			require.Equal(t, c.result, job.Status.Result)
			if c.error == "" {
				require.Nil(t, job.Status.Error)
			} else {
				require.Equal(t, c.error, job.Status.Error.Message)
			}
			require.Equal(t, b.now, job.Status.CompletionTime.UTC(), "the API named no time")
			requireCondition(t, job, condReady, metav1.ConditionFalse, c.reason, c.says)
			requireCondition(t, job, condStalled, metav1.ConditionTrue, c.reason, c.says)
			requireCondition(t, job, condFailed, metav1.ConditionTrue, c.reason, c.says)
			requireNoCondition(t, job, condReconciling, condComplete)
		})
	}
}

func TestJobWaitsForItsReferences(t *testing.T) {
	t.Parallel()
	otherKey := func(b *testBundle, name, key string) {
		stack := b.stack(true)
		stack.Spec.Auth.SigningKeySecretRef = &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key}
		require.NoError(b.t, b.client.Update(b.t.Context(), stack))
		b.stack(true)
	}
	for name, c := range map[string]struct {
		broken func(b *testBundle)
		reason string
		says   string
		mended func(b *testBundle)
	}{
		"no stack": {
			broken: func(b *testBundle) { require.NoError(b.t, b.client.Delete(b.t.Context(), newStack(b.namespace))) },
			reason: "StackNotFound", says: `no AtlasStack "atlas"`,
			mended: func(b *testBundle) { b.stack(true) },
		},
		"a stack that is not Ready": {
			broken: func(b *testBundle) { b.stack(false) },
			reason: "StackNotReady", says: "is not Ready",
			mended: func(b *testBundle) { b.stack(true) },
		},
		"a stack that hibernates": {
			broken: func(b *testBundle) {
				stack := b.stack(true)
				stack.Spec.Hibernate = true
				require.NoError(b.t, b.client.Update(b.t.Context(), stack))
				b.stack(true)
			},
			reason: "StackNotReady", says: "hibernates",
			mended: func(b *testBundle) {
				stack := b.stack(true)
				stack.Spec.Hibernate = false
				require.NoError(b.t, b.client.Update(b.t.Context(), stack))
				b.stack(true)
			},
		},
		"a stack that was Ready for another spec": {
			broken: func(b *testBundle) {
				stack := b.stack(true)
				stack.Spec.LogLevel = "debug"
				require.NoError(b.t, b.client.Update(b.t.Context(), stack))
			},
			reason: "StackNotReady", says: "is not Ready",
			mended: func(b *testBundle) { b.stack(true) },
		},
		"no Secret": {
			broken: func(b *testBundle) { otherKey(b, "own", "key") },
			reason: "SecretNotFound", says: `"own"`,
			mended: func(b *testBundle) { b.secret("own", "key", b.api.keyPEM) },
		},
		"a Secret without the key": {
			broken: func(b *testBundle) { otherKey(b, "atlas-auth", "key") },
			reason: "SecretKeyMissing", says: `has no key "key"`,
			mended: func(b *testBundle) { otherKey(b, "atlas-auth", "signing-key.pem") },
		},
		"a Secret with something else": {
			broken: func(b *testBundle) { b.secret("own", "key", []byte("hunter2")); otherKey(b, "own", "key") },
			reason: "SecretInvalid", says: "not PEM",
			mended: func(b *testBundle) { otherKey(b, "atlas-auth", "signing-key.pem") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			job := newJob(b.namespace)
			b.create(job)
			c.broken(b)

			job, result, err := b.reconcile(job)
			require.NoError(t, err)
			require.Positive(t, result.RequeueAfter)
			require.LessOrEqual(t, result.RequeueAfter, 2*recheckReferences)
			require.Equal(t, platformv1alpha1.AtlasJobPending, job.Status.Phase)
			requireCondition(t, job, condReady, metav1.ConditionFalse, c.reason, c.says)
			requireCondition(t, job, condReconciling, metav1.ConditionTrue, c.reason, c.says)
			requireNoCondition(t, job, condStalled)
			for _, condition := range job.Status.Conditions {
				require.NotContains(t, condition.Message, "hunter2")
			}
			_, requests := b.api.seen()
			require.Empty(t, requests)

			c.mended(b)
			job, _, err = b.reconcile(job)
			require.NoError(t, err)
			require.Equal(t, platformv1alpha1.AtlasJobQueued, job.Status.Phase)
		})
	}
}

func TestSubmittedJobIsFollowedWhileItsStackIsNotReady(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := newJob(b.namespace)
	b.create(job)
	job, _, err := b.reconcile(job)
	require.NoError(t, err)

	b.stack(false)
	b.api.set(map[string]any{"state": "SUCCEEDED"})
	job, _, err = b.reconcile(job)
	require.NoError(t, err)
	require.Equal(t, platformv1alpha1.AtlasJobSucceeded, job.Status.Phase)
}

func TestAPIDownThenUp(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"no answer": hangUp,
		"a 500": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "boom", http.StatusInternalServerError)
		},
		"a 503 problem":           answerProblem(http.StatusServiceUnavailable, `{"title":"Service Unavailable","detail":"PostgreSQL is away"}`),
		"a 429 problem":           answerProblem(http.StatusTooManyRequests, `{"title":"Too Many Requests"}`),
		"a 409 problem":           answerProblem(http.StatusConflict, `{"detail":"the same key is being answered"}`),
		"a 404 of something else": http.NotFound,
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusTemporaryRedirect)
		},
		"a page that is not a job": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"a job without id":         func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"state":"QUEUED"}`) },
		"a job with a path for an id": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"id":"../me","state":"QUEUED"}`)
		},
		"a job in a state of its own": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"id":"`+testCollection+`","state":"ASLEEP"}`)
		},
		"more than a job could ever be": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat(" ", maxAnswer+1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			job := newJob(b.namespace)
			b.create(job)

			b.api.answerWith(answer)
			for range 3 {
				var err error
				job, _, err = b.reconcile(job)
				require.Error(t, err, "asks for a retry with backoff")
				require.Equal(t, platformv1alpha1.AtlasJobPending, job.Status.Phase)
				requireCondition(t, job, condReady, metav1.ConditionFalse, "Unreachable", "tried again")
				requireCondition(t, job, condReconciling, metav1.ConditionTrue, "Unreachable", "tried again")
				requireNoCondition(t, job, condStalled)
			}

			b.api.answerWith(nil)
			job, _, err := b.reconcile(job)
			require.NoError(t, err)
			require.Equal(t, platformv1alpha1.AtlasJobQueued, job.Status.Phase)
			posts, _ := b.api.seen()
			require.Len(t, posts, 2, "before it is submitted again it is looked for")
			for _, key := range posts {
				require.Equal(t, string(job.UID), key, "every try is the same job")
			}
			require.Len(t, b.api.jobs, 1)

			b.api.answerWith(answer)
			job, _, err = b.reconcile(job)
			require.Error(t, err)
			require.Equal(t, platformv1alpha1.AtlasJobQueued, job.Status.Phase, "what was known stays")
			requireCondition(t, job, condReady, metav1.ConditionUnknown, "Unreachable", "tried again")

			b.api.answerWith(nil)
			b.api.set(map[string]any{"state": "SUCCEEDED"})
			job, _, err = b.reconcile(job)
			require.NoError(t, err)
			requireCondition(t, job, condReady, metav1.ConditionTrue, "Succeeded", "")
		})
	}
}

func TestLostStatusWriteSubmitsTheSameJob(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := newJob(b.namespace)
	b.create(job)
	stale := job.DeepCopy()

	job, _, err := b.reconcile(job)
	require.NoError(t, err)
	id := job.Status.JobID

	// A cache that is behind shows the job as it was before it was submitted.
	b.r.Client = staleClient{Client: b.asOperator, job: stale}
	after, result, err := b.reconcile(job)
	require.NoError(t, err)
	require.Positive(t, result.RequeueAfter)
	require.Equal(t, job.ResourceVersion, after.ResourceVersion, "what the stale read led to was not written")
	require.Equal(t, id, after.Status.JobID)
	require.Len(t, b.api.jobs, 1)
}

func TestRefusedJobStalls(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		says   string
	}{
		"with bad fields": {
			answer: answerProblem(422, `{"title":"Unprocessable Content","detail":"the job is not valid","errors":[{"pointer":"/parameters/collection_id","message":"there is no such collection"},{"parameter":"Idempotency-Key","message":"too long"}]}`),
			says:   "the job is not valid: /parameters/collection_id: there is no such collection; Idempotency-Key: too long (HTTP 422)",
		},
		"with a title only": {answer: answerProblem(403, `{"title":"Forbidden"}`), says: "Forbidden (HTTP 403)"},
		"with nothing":      {answer: answerProblem(400, `{}`), says: "Bad Request (HTTP 400)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			job := newJob(b.namespace)
			b.create(job)
			b.api.answerWith(c.answer)

			job, result, err := b.reconcile(job)
			require.NoError(t, err, "no retry storm")
			require.Zero(t, result)
			require.Equal(t, platformv1alpha1.AtlasJobFailed, job.Status.Phase)
			require.Equal(t, &platformv1alpha1.AtlasJobError{Code: "refused", Message: c.says}, job.Status.Error)
			require.NotNil(t, job.Status.CompletionTime)
			requireCondition(t, job, condStalled, metav1.ConditionTrue, "Refused", c.says)
			requireCondition(t, job, condReady, metav1.ConditionFalse, "Refused", c.says)
			requireCondition(t, job, condFailed, metav1.ConditionTrue, "Refused", c.says)
			requireNoCondition(t, job, condReconciling)

			_, result, err = b.reconcile(job)
			require.NoError(t, err)
			require.Zero(t, result)
			posts, _ := b.api.seen()
			require.Len(t, posts, 1)
		})
	}
}

func TestTokenIsRefusedUntilTheAPIHasTheKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := newJob(b.namespace)
	b.create(job)
	healthy := b.api.verifier
	b.api.verifier = newJobsAPI(t).verifier

	job, _, err := b.reconcile(job)
	require.Error(t, err)
	requireCondition(t, job, condReady, metav1.ConditionFalse, "Unauthorized", "current signing key")
	requireNoCondition(t, job, condStalled)

	b.api.verifier = healthy
	job, _, err = b.reconcile(job)
	require.NoError(t, err)
	require.Equal(t, platformv1alpha1.AtlasJobQueued, job.Status.Phase)
}

func TestJobThatTheAPIForgot(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := newJob(b.namespace)
	b.create(job)
	job, _, err := b.reconcile(job)
	require.NoError(t, err)

	b.api.answerWith(answerProblem(404, `{"title":"Not Found","detail":"there is no such job"}`))
	job, result, err := b.reconcile(job)
	require.NoError(t, err)
	require.GreaterOrEqual(t, result.RequeueAfter, recheckRefused)
	require.Equal(t, platformv1alpha1.AtlasJobQueued, job.Status.Phase, "no outcome is made up")
	requireCondition(t, job, condReady, metav1.ConditionUnknown, "JobNotFound", "there is no such job")
	requireCondition(t, job, condStalled, metav1.ConditionTrue, "JobNotFound", "delete this AtlasJob")

	b.api.answerWith(nil)
	job, _, err = b.reconcile(job)
	require.NoError(t, err)
	requireNoCondition(t, job, condStalled)
	posts, _ := b.api.seen()
	require.Len(t, posts, 1, "it is never submitted again")
}

func TestTTLDeletesOnlyWithTheOutcomeInStatus(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := newJob(b.namespace)
	ttl := int32(60)
	job.Spec.TTLSecondsAfterFinished = &ttl
	b.create(job)
	b.api.set(map[string]any{"state": "SUCCEEDED", "finished_at": b.now.Format(time.RFC3339)})

	// The outcome can't be written, so nothing may be deleted, however old it is.
	b.now = b.now.Add(time.Hour)
	b.r.Client = failingStatus{b.asOperator}
	job, _, err := b.reconcile(job)
	require.ErrorContains(t, err, "patch the status")
	require.NotNil(t, job)
	require.Empty(t, job.Status.Phase)

	b.now = b.now.Add(-time.Hour).Add(10 * time.Second)
	b.r.Client = b.asOperator
	job, result, err := b.reconcile(job)
	require.NoError(t, err)
	require.Equal(t, platformv1alpha1.AtlasJobSucceeded, job.Status.Phase)
	require.Equal(t, 50*time.Second, result.RequeueAfter)

	b.now = b.now.Add(50 * time.Second)
	gone, result, err := b.reconcile(job)
	require.NoError(t, err)
	require.Zero(t, result)
	require.Nil(t, gone)

	_, result, err = b.reconcile(job)
	require.NoError(t, err)
	require.Zero(t, result)
}

func TestSpecIsImmutableAndChecked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := newJob(b.namespace)
	b.create(job)
	job.Spec.Reindex.CollectionID = "01890a5d-ac96-774b-bcce-b302099a8058"
	require.ErrorContains(t, b.client.Update(t.Context(), job), "spec can't be changed")
	for name, change := range map[string]func(*platformv1alpha1.AtlasJobSpec){
		"the stack":               func(s *platformv1alpha1.AtlasJobSpec) { s.StackRef.Name = "other" },
		"a priority":              func(s *platformv1alpha1.AtlasJobSpec) { s.Priority = new(int32(3)) },
		"the number of attempts":  func(s *platformv1alpha1.AtlasJobSpec) { s.MaxAttempts = new(int32(3)) },
		"something and suspend":   func(s *platformv1alpha1.AtlasJobSpec) { s.Suspend, s.Priority = true, new(int32(3)) },
		"what it does, to itself": func(s *platformv1alpha1.AtlasJobSpec) { s.Reindex = &platformv1alpha1.ReindexJob{} },
	} {
		changed := b.read(job)
		change(&changed.Spec)
		require.ErrorContains(t, b.client.Update(t.Context(), changed), "spec can't be changed", name)
	}
	allowed := b.read(job)
	allowed.Spec.Suspend, allowed.Spec.TTLSecondsAfterFinished = true, new(int32(5))
	require.NoError(t, b.client.Update(t.Context(), allowed))
	allowed.Spec.Suspend, allowed.Spec.TTLSecondsAfterFinished = false, nil
	require.NoError(t, b.client.Update(t.Context(), allowed))

	for name, c := range map[string]struct {
		change func(*platformv1alpha1.AtlasJobSpec)
		says   string
	}{
		"no parameters":     {func(s *platformv1alpha1.AtlasJobSpec) { s.Reindex = nil }, "reindex is missing"},
		"not a UUID":        {func(s *platformv1alpha1.AtlasJobSpec) { s.Reindex.CollectionID = "everything" }, "collectionID"},
		"an unknown type":   {func(s *platformv1alpha1.AtlasJobSpec) { s.Type = "dance" }, "dance"},
		"no stack":          {func(s *platformv1alpha1.AtlasJobSpec) { s.StackRef.Name = "" }, "stackRef.name"},
		"a negative time":   {func(s *platformv1alpha1.AtlasJobSpec) { s.TTLSecondsAfterFinished = new(int32(-1)) }, "ttlSecondsAfterFinished"},
		"a priority of 10":  {func(s *platformv1alpha1.AtlasJobSpec) { s.Priority = new(int32(10)) }, "priority"},
		"no attempt":        {func(s *platformv1alpha1.AtlasJobSpec) { s.MaxAttempts = new(int32(0)) }, "maxAttempts"},
		"an id with a path": {func(s *platformv1alpha1.AtlasJobSpec) { s.Reindex.CollectionID = "../" + testCollection[3:] }, "collectionID"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			job := newJob(b.namespace)
			job.Name = "bad"
			c.change(&job.Spec)
			require.ErrorContains(t, b.client.Create(t.Context(), job), c.says)
		})
	}
}

func TestDeletedJobThatWasNeverSubmittedIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := newJob(b.namespace)
	job.Finalizers = []string{"example.com/held-by-someone"}
	b.create(job)
	require.NoError(t, b.client.Delete(t.Context(), job))
	_, result, err := b.reconcile(job)
	require.NoError(t, err)
	require.Zero(t, result)
	_, requests := b.api.seen()
	require.Empty(t, requests)

	job = b.read(job)
	job.Finalizers = nil
	require.NoError(t, b.client.Update(t.Context(), job))
}

// TestManager runs the controller as the operator does: with its cache and watches, and with the generated role and no other right.
func TestManager(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.client.Delete(t.Context(), newStack(b.namespace)))
	mgr, err := ctrl.NewManager(operatorConfig, ctrl.Options{
		Scheme:     testScheme,
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Cache:      cacheOf(b.namespace),
		Controller: controllerOptions,
	})
	require.NoError(t, err)
	r := &Reconciler{
		Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("atlasjob"),
		BaseURL: func(*platformv1alpha1.AtlasStack) string { return b.api.server.URL },
	}
	require.NoError(t, r.SetupWithManager(mgr))
	done := make(chan error, 1)
	go func() { done <- mgr.Start(t.Context()) }()
	t.Cleanup(func() { require.NoError(t, <-done) })

	job := newJob(b.namespace)
	ttl := int32(0)
	job.Spec.TTLSecondsAfterFinished = &ttl
	b.create(job)
	eventually := func(says string, met func(job *platformv1alpha1.AtlasJob) bool) {
		t.Helper()
		require.Eventually(t, func() bool { return met(b.read(job)) }, time.Minute, 20*time.Millisecond, says)
	}
	eventually("it waits for its stack", func(job *platformv1alpha1.AtlasJob) bool {
		return job.Status.Phase == platformv1alpha1.AtlasJobPending
	})
	b.stack(true)
	eventually("the stack's being Ready wakes it up", func(job *platformv1alpha1.AtlasJob) bool {
		return job.Status.Phase == platformv1alpha1.AtlasJobQueued
	})
	b.api.set(map[string]any{"state": "SUCCEEDED"})
	eventually("it is deleted when it is done", func(job *platformv1alpha1.AtlasJob) bool { return job == nil })
	// A cache that is a moment behind may submit again: with the same key, which is the same job.
	posts, _ := b.api.seen()
	require.Equal(t, []string{string(job.UID)}, slices.Compact(posts))
	require.Len(t, b.api.jobs, 1)
	require.Eventually(t, func() bool {
		var events eventsv1.EventList
		require.NoError(t, b.client.List(t.Context(), &events, client.InNamespace(b.namespace)))
		return slices.ContainsFunc(events.Items, func(event eventsv1.Event) bool {
			return event.Reason == "Succeeded" && event.Regarding.UID == job.UID
		})
	}, time.Minute, 20*time.Millisecond, "the event outlives the job")
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	r := &Reconciler{}
	r.setDefaults()
	require.Equal(t, "http://atlas-api.team.svc", r.BaseURL(newStack("team")))
	require.WithinDuration(t, time.Now(), r.Clock(), time.Minute)
	require.Nil(t, r.HTTP.Transport.(*http.Transport).Proxy, "a token must not pass a proxy")

	reached := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer elsewhere.Close()
	here := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer here.Close()
	_, err := jobsClient{http: r.HTTP, baseURL: here.URL, token: "t"}.get(t.Context(), testCollection)
	require.ErrorContains(t, err, "HTTP 307")
	require.False(t, reached)
}
