package atlasstack_test

import (
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// TestYoungerStackIsToldWhoHasItsTopic and does nothing, until the older one goes.
func TestYoungerStackIsToldWhoHasItsTopic(t *testing.T) {
	t.Parallel()
	older, younger := newBundle(t), newBundle(t)
	older.bringUp(dropAll)
	topics := older.kafka.has()
	younger.create(func(s *v1alpha1.AtlasStackSpec) {
		s.Kafka.Brokers = []string{"other:9092", older.kafka.address}
		s.Kafka.Topic.Partitions = 12
	})
	const kind = v1alpha1.ConditionTopicReady
	younger.condition(kind, metav1.ConditionFalse, v1alpha1.ReasonClaimedByOther, "belongs to AtlasStack demo in namespace "+older.namespace)
	stack := younger.condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonClaimedByOther, "create this stack again with another kafka.topic.name")
	require.Equal(t, status.FailedStatus, younger.kstatusOf(stack))
	require.Nil(t, stack.Status.Topic)
	younger.startsNothing()
	require.Equal(t, topics, older.kafka.has())
	require.Equal(t, int32(6), older.kafka.topics[topicName].Partitions)

	// What the younger one wants is not deleted with the older one.
	younger.update(func(s *v1alpha1.AtlasStackSpec) { s.Kafka.Brokers = []string{older.kafka.address} })
	younger.condition(kind, metav1.ConditionFalse, v1alpha1.ReasonClaimedByOther, "")
	older.remove()
	older.gone()
	require.Contains(t, older.event("LeftBehind").Note, "AtlasStack demo in namespace "+younger.namespace+" wants them too")
	require.False(t, older.elastic.there())
	younger.finishMigration(true)
	younger.untilReady()
	require.Equal(t, int32(12), older.kafka.topics[topicName].Partitions)
}

// TestSameServersByOtherAddresses: only the servers' own identities tell.
func TestSameServersByOtherAddresses(t *testing.T) {
	t.Parallel()
	older, younger := newBundle(t), newBundle(t)
	older.bringUp()
	broker, address := older.servers.alias(older.namespace, older.namespace+"-other")
	younger.create(func(s *v1alpha1.AtlasStackSpec) {
		s.Kafka.Brokers, s.Elasticsearch.Addresses = []string{broker}, []string{address}
	})
	younger.condition(v1alpha1.ConditionTopicReady, metav1.ConditionFalse, v1alpha1.ReasonClaimedByOther, "topic "+topicName)
	stack := younger.condition(v1alpha1.ConditionSearchIndexReady, metav1.ConditionFalse, v1alpha1.ReasonClaimedByOther, "alias atlas-items on this Elasticsearch")
	require.Nil(t, stack.Status.Topic)
	require.Nil(t, stack.Status.SearchIndex)
	require.Empty(t, younger.deployments())

	// The older one moves on.
	other := newBundle(t)
	older.update(func(s *v1alpha1.AtlasStackSpec) {
		s.Kafka.Brokers, s.Elasticsearch.Addresses = []string{other.kafka.address}, []string{other.elastic.address}
	})
	younger.finishMigration(true)
	younger.untilReady()
	older.untilReady()
}

// TestDeadLetterTopicIsClaimedToo: a topic of another stack may have its name.
func TestDeadLetterTopicIsClaimedToo(t *testing.T) {
	t.Parallel()
	older, younger := newBundle(t), newBundle(t)
	older.bringUp()
	younger.create(func(s *v1alpha1.AtlasStackSpec) {
		s.Kafka.Brokers, s.Kafka.Topic.Name = []string{older.kafka.address}, topicName+".dlq"
	})
	younger.condition(v1alpha1.ConditionTopicReady, metav1.ConditionFalse, v1alpha1.ReasonClaimedByOther, "")
	younger.startsNothing()
}

// TestOneOfTwoTwinsWins: made at the same time, one has everything and the other one nothing.
func TestOneOfTwoTwinsWins(t *testing.T) {
	t.Parallel()
	for range 4 {
		a, b := newBundle(t), newBundle(t)
		a.createSecret("postgres", map[string]string{"url": databaseURL})
		b.createSecret("postgres", map[string]string{"url": databaseURL})
		same := func(s *v1alpha1.AtlasStackSpec) {
			s.Kafka.Brokers, s.Elasticsearch.Addresses = []string{a.kafka.address}, []string{a.elastic.address}
		}
		done := make(chan error, 2)
		for _, twin := range []*bundle{a, b} {
			go func() { done <- twin.client.Create(t.Context(), twin.stack(same)) }()
		}
		require.NoError(t, <-done)
		require.NoError(t, <-done)
		settled := func(twin *bundle) (loses bool) {
			stack := &v1alpha1.AtlasStack{}
			require.NoError(t, twin.client.Get(t.Context(), client.ObjectKey{Namespace: twin.namespace, Name: stackName}, stack))
			for _, c := range stack.Status.Conditions {
				loses = loses || c.Type == v1alpha1.ConditionStalled && c.Reason == v1alpha1.ReasonClaimedByOther
			}
			return loses
		}
		require.Eventually(t, func() bool { return settled(a) || settled(b) }, patience, tick)
		winner, loser := a, b
		if settled(a) {
			winner, loser = b, a
		}
		winner.finishMigration(true)
		winner.untilReady()
		require.True(t, settled(loser))
		loser.startsNothing()
	}
}

func (b *bundle) startsNothing() {
	b.t.Helper()
	jobs := &batchv1.JobList{}
	require.NoError(b.t, b.client.List(b.t.Context(), jobs, client.InNamespace(b.namespace)))
	require.Empty(b.t, jobs.Items)
	require.Empty(b.t, b.deployments())
}

// TestAliasOfSomebodyElse is not led away by a stack that never had it.
func TestAliasOfSomebodyElse(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.elastic.mu.Lock()
	b.elastic.foreign = true
	b.elastic.mu.Unlock()
	b.create()
	b.finishMigration(true)
	stack := b.condition(v1alpha1.ConditionSearchIndexReady, metav1.ConditionFalse, v1alpha1.ReasonForbiddenChange, "leads to index theirs, which is not Atlas's")
	require.Nil(t, stack.Status.SearchIndex)
	b.condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonForbiddenChange, "remove that alias")
	require.Contains(t, b.elastic.content(), "template false edited false index false alias false")
	require.Empty(t, b.deployments())

	b.elastic.mu.Lock()
	b.elastic.foreign = false
	b.elastic.mu.Unlock()
	b.touch()
	b.rollOut()
	b.untilReady()
}
