package atlasstack_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// deleted is a world whose stack was ready and is being deleted, as the operator has seen, with what went wrong before.
func deleted(t *testing.T, wrong func(*world)) *world {
	t.Helper()
	w := deletedUnseen(t, wrong)
	require.NoError(t, w.turn())
	return w
}

// deletedUnseen is one whose operator is away when the stack is deleted, and comes back later.
func deletedUnseen(t *testing.T, wrong func(*world)) *world {
	t.Helper()
	testenv.Require(t, testenv.EnvtestAssets)
	w, err := newWorld(t.Context(), theSuite)
	require.NoError(t, err)
	require.NoError(t, w.client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "elastic"}, StringData: map[string]string{"apiKey": "secret"},
	}))
	require.NoError(t, w.create())
	require.NoError(t, w.update(func(s *v1alpha1.AtlasStackSpec) {
		full(s)
		s.Elasticsearch.CredentialsSecretRef = &corev1.LocalObjectReference{Name: "elastic"}
	}))
	require.NoError(t, w.settle())
	wrong(w)
	require.NoError(t, w.deleteStack())
	stack, err := w.stack()
	require.NoError(t, err)
	w.began = stack.DeletionTimestamp.Time
	return w
}

// after gives the operator some turns at a time after the deletion, and reports whether the stack is gone.
func (w *world) after(t *testing.T, age time.Duration) bool {
	t.Helper()
	w.clock = age
	for range 5 {
		require.NoError(t, w.turn())
	}
	_, err := w.stack()
	return apierrors.IsNotFound(err)
}

// left is the Event that names what was left behind.
func (w *world) left() string {
	for _, note := range w.told.notes {
		if strings.HasPrefix(note, "Warning LeftBehind") {
			return note
		}
	}
	return ""
}

func TestBrokerThatIsGoneHoldsADeletionUpFor5Minutes(t *testing.T) {
	t.Parallel()
	w := deleted(t, func(w *world) { w.kafka.setDown(true) })
	require.False(t, w.after(t, 4*time.Minute))
	require.False(t, w.elastic.there())
	require.True(t, w.after(t, 5*time.Minute))
	require.Len(t, w.kafka.has(), 2)
	require.Contains(t, w.left(), "the topics "+topicName)
	require.Contains(t, w.left(), w.kafka.address+" (connection refused)")
	require.NotContains(t, w.left(), "atlas-items")
}

// TestSecretThatIsGoneHoldsADeletionUpFor30Seconds where nobody has read it: the operator has restarted since.
func TestSecretThatIsGoneHoldsADeletionUpFor30Seconds(t *testing.T) {
	t.Parallel()
	w := deleted(t, func(w *world) {
		w.deleteSecret(t, "elastic")
		w.start(fault{})
	})
	require.False(t, w.after(t, 20*time.Second))
	require.Empty(t, w.kafka.has())
	require.True(t, w.after(t, 31*time.Second))
	require.True(t, w.elastic.there())
	require.Contains(t, w.left(), "the indices atlas-items-*-*")
	require.Contains(t, w.left(), "Secret elastic does not exist")
}

// TestNamespaceThatIsDeletedTakesTopicAndIndexAlong: its Secrets go before the stack, in any number of the operator's turns.
func TestNamespaceThatIsDeletedTakesTopicAndIndexAlong(t *testing.T) {
	t.Parallel()
	for _, turns := range []int{0, 3} {
		w := deleted(t, func(w *world) {
			w.deleteSecret(t, "elastic")
			w.deleteSecret(t, "postgres")
			for range turns {
				require.NoError(t, w.turn())
			}
		})
		require.True(t, w.after(t, time.Second))
		require.Empty(t, w.kafka.has())
		require.False(t, w.elastic.there())
		require.Equal(t, "secret", w.elastic.credentials().APIKey)
		require.Empty(t, w.left())
	}
}

// TestOnlyWhatADeletionNeedsIsRemembered of Secrets that are gone: what the stack refers to, while its policy is Delete.
func TestOnlyWhatADeletionNeedsIsRemembered(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*v1alpha1.AtlasStackSpec){
		"the policy was Retain for a while": func(s *v1alpha1.AtlasStackSpec) {
			s.Kafka.DeletionPolicy, s.Elasticsearch.DeletionPolicy = v1alpha1.DeletionRetain, v1alpha1.DeletionRetain
		},
		"the stack referred to another Secret": func(s *v1alpha1.AtlasStackSpec) { s.Elasticsearch.CredentialsSecretRef.Name = "other" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := deleted(t, func(w *world) {
				w.deleteSecret(t, "elastic")
				var before v1alpha1.AtlasStackSpec
				require.NoError(t, w.update(func(s *v1alpha1.AtlasStackSpec) {
					s.DeepCopyInto(&before)
					change(s)
				}))
				require.NoError(t, w.turn())
				require.NoError(t, w.turn())
				require.NoError(t, w.update(func(s *v1alpha1.AtlasStackSpec) { *s = before }))
				require.NoError(t, w.turn())
				require.NoError(t, w.turn())
			})
			require.False(t, w.after(t, 20*time.Second))
			require.True(t, w.after(t, 31*time.Second))
			require.Contains(t, w.left(), "Secret elastic does not exist")
		})
	}
}

func (w *world) deleteSecret(t *testing.T, name string) {
	t.Helper()
	require.NoError(t, w.client.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}}))
}

func TestPodThatDoesNotEndHoldsADeletionUpFor4Minutes(t *testing.T) {
	t.Parallel()
	w := deleted(t, func(w *world) { require.NoError(t, w.client.Create(t.Context(), w.pod())) })
	require.False(t, w.after(t, 3*time.Minute))
	require.Len(t, w.kafka.has(), 2)
	require.True(t, w.after(t, 4*time.Minute))
	require.Empty(t, w.kafka.has())
	require.Empty(t, w.left())
}

func TestJobThatIsNotCancelledHoldsADeletionUpFor2Minutes(t *testing.T) {
	t.Parallel()
	w := deleted(t, func(w *world) { require.NoError(t, w.submit()) })
	require.False(t, w.after(t, time.Minute))
	require.NotZero(t, w.count(), "the API has to run")
	require.True(t, w.after(t, 2*time.Minute))
	require.Empty(t, w.kafka.has())
}

// pod is one of the stack's, which ends when the test says so.
func (w *world) pod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "indexer", Labels: map[string]string{workloads.StackLabel: stackName}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "atlas", Image: image}}},
	}
}

// TestOperatorThatWasAwayWaitsForJobsAndPods as it would have, had it seen the deletion when it came.
func TestOperatorThatWasAwayWaitsForJobsAndPods(t *testing.T) {
	t.Parallel()
	w := deletedUnseen(t, func(w *world) {
		w.kafka.join(topicName+"-indexer", topicName+"-audit")
		w.kafka.setMembers(true)
		require.NoError(t, errors.Join(w.submit(), w.client.Create(t.Context(), w.pod())))
	})
	require.False(t, w.after(t, 6*time.Minute))
	require.NotZero(t, w.count(), "the job is being cancelled, for which the API has to run")
	_, err := w.play()
	require.NoError(t, err)
	require.False(t, w.after(t, 7*time.Minute))
	require.Zero(t, w.count())
	require.Len(t, w.kafka.has(), 4, "a pod could make the topic again")
	require.True(t, w.elastic.there())

	require.NoError(t, w.client.Delete(t.Context(), w.pod(), client.GracePeriodSeconds(0)))
	w.kafka.setMembers(false)
	require.True(t, w.after(t, 8*time.Minute))
	require.Empty(t, w.kafka.has())
	require.False(t, w.elastic.there())
	require.Contains(t, w.told.notes, "Normal CleanedUp What the deletionPolicies say is deleted.")
}

// TestOperatorThatWasAwayGivesNothingUpForOneFailure of the first thing that it asks of the API server.
func TestOperatorThatWasAwayGivesNothingUpForOneFailure(t *testing.T) {
	t.Parallel()
	w := deletedUnseen(t, func(*world) {})
	w.clock = 6 * time.Minute
	w.start(fault{call: 2})
	require.ErrorIs(t, w.turn(), errFault)
	require.True(t, w.after(t, w.clock))
	require.Empty(t, w.kafka.has())
	require.Empty(t, w.left())
}

func TestBrokerThatIsGoneHoldsADeletionUpFor4MinutesMoreWhenTheOperatorWasAway(t *testing.T) {
	t.Parallel()
	w := deletedUnseen(t, func(w *world) { w.kafka.setDown(true) })
	require.False(t, w.after(t, 6*time.Minute))
	require.False(t, w.elastic.there())
	require.True(t, w.after(t, 10*time.Minute))
	require.Contains(t, w.left(), w.kafka.address+" (connection refused)")
}
