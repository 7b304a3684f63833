package atlasstack_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// TestAPasswordThatIsNotEscapedIsNotTold: those who connect take a part of it for the host, and print that.
func TestAPasswordThatIsNotEscapedIsNotTold(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.createSecret("postgres", map[string]string{"url": "postgres://atlas:hunter2@VERYSECRET@db:5432/atlas"})
	require.NoError(t, b.client.Create(t.Context(), b.stack()))
	stack := b.condition(v1alpha1.ConditionReferencesResolved, metav1.ConditionFalse, v1alpha1.ReasonSecretInvalid, "write %40")
	for _, c := range stack.Status.Conditions {
		require.NotContains(t, c.Message, "VERYSECRET")
	}
}

// TestADatabaseURLThatCannotBeUsedIsToldBeforeAnythingIsStarted, without its password.
func TestADatabaseURLThatCannotBeUsedIsToldBeforeAnythingIsStarted(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.createSecret("postgres", map[string]string{"url": "postgres://atlas:VERYSECRET@db:99999999/atlas"})
	require.NoError(t, b.client.Create(t.Context(), b.stack()))
	stack := b.condition(v1alpha1.ConditionReferencesResolved, metav1.ConditionFalse, v1alpha1.ReasonSecretInvalid, "key url of Secret postgres has a port that is not between 1 and 65535")
	for _, c := range stack.Status.Conditions {
		require.NotContains(t, c.Message, "VERYSECRET")
	}
}

// TestReadySaysWhatAPersonHasToDo: not that one step waits for the other.
func TestReadySaysWhatAPersonHasToDo(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.create(func(s *v1alpha1.AtlasStackSpec) {
		s.API.Resources.Requests = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("2Gi")}
		s.API.Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("1Gi")}
	})
	b.finishMigration(true)
	b.condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonRefused, "spec.api")
	b.condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonRefused, "resources.requests")
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.API.Resources.Limits = nil })
	b.untilReady()

	// A claim that is lost is said in Ready too, though steps before it wait.
	other := newBundle(t)
	other.create(func(s *v1alpha1.AtlasStackSpec) { s.Kafka.Brokers = []string{b.kafka.address} })
	other.condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonClaimedByOther, "belongs to AtlasStack demo in namespace "+b.namespace)
}

// TestOneTopicIsPutRightBesideAnotherThatCannotBe has too many partitions of one, and deletes the other.
func TestOneTopicIsPutRightBesideAnotherThatCannotBe(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	b.kafka.mu.Lock()
	main := b.kafka.topics[topicName]
	main.Partitions = 9
	b.kafka.topics[topicName] = main
	delete(b.kafka.topics, topicName+".dlq")
	b.kafka.mu.Unlock()
	b.touch()
	b.condition(v1alpha1.ConditionTopicReady, metav1.ConditionFalse, v1alpha1.ReasonForbiddenChange, topicName)
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
		b.touch()
		require.Contains(c, b.kafka.has(), topicName+".dlq")
	})
}

// TestTokensOutliveNoKey: the API server refuses a rotation that is faster than tokens end.
func TestTokensOutliveNoKey(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	err := b.client.Create(t.Context(), b.stack(func(s *v1alpha1.AtlasStackSpec) {
		s.Auth.AccessTokenLifetime = &metav1.Duration{Duration: 3 * time.Hour}
		s.Auth.SigningKeyRotation = &v1alpha1.SigningKeyRotationSpec{Interval: metav1.Duration{Duration: time.Hour}}
	}))
	require.ErrorContains(t, err, "is shorter than accessTokenLifetime")
}
