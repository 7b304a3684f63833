package atlasstack_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// deleted is a world whose stack was ready and is being deleted, with what went wrong before.
func deleted(t *testing.T, wrong func(*world)) *world {
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
	stack, err := w.stack()
	require.NoError(t, err)
	require.NoError(t, w.client.Delete(t.Context(), stack))
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
	w := deleted(t, func(w *world) {
		stack, err := w.stack()
		require.NoError(t, err)
		require.NoError(t, w.client.Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "stuck", Labels: map[string]string{"platform.atlas.dev/stack": stack.Name}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "atlas", Image: image}}},
		}))
	})
	require.False(t, w.after(t, 3*time.Minute))
	require.Len(t, w.kafka.has(), 2)
	require.True(t, w.after(t, 4*time.Minute))
	require.Empty(t, w.kafka.has())
	require.Empty(t, w.left())
}

func TestJobThatIsNotCancelledHoldsADeletionUpFor2Minutes(t *testing.T) {
	t.Parallel()
	w := deleted(t, func(w *world) {
		job := &v1alpha1.AtlasJob{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "running", Finalizers: []string{v1alpha1.CancelJobFinalizer}}}
		job.Spec.StackRef.Name, job.Spec.Type, job.Spec.Reindex = stackName, v1alpha1.AtlasJobTypeReindex, &v1alpha1.ReindexJob{}
		require.NoError(t, w.client.Create(t.Context(), job))
	})
	require.False(t, w.after(t, time.Minute))
	require.NotZero(t, w.count(), "the API has to run")
	require.True(t, w.after(t, 2*time.Minute))
	require.Empty(t, w.kafka.has())
}
