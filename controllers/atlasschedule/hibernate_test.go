package atlasschedule

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
)

func TestNothingIsMadeForAStackThatHibernates(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stack := &platformv1alpha1.AtlasStack{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "atlas"},
		Spec: platformv1alpha1.AtlasStackSpec{
			Image:         "registry.example.com/atlas:1.0.0",
			Postgres:      platformv1alpha1.PostgresSpec{URLSecretRef: corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "db"}, Key: "url"}},
			Kafka:         platformv1alpha1.KafkaSpec{Brokers: []string{"kafka:9092"}},
			Elasticsearch: platformv1alpha1.ElasticsearchSpec{Addresses: []string{"http://elasticsearch:9200"}},
			Hibernate:     true,
		},
	}
	require.NoError(t, b.client.Create(t.Context(), stack))
	b.create(func(*platformv1alpha1.AtlasScheduleSpec) {})
	schedule, result, err := b.reconcile()
	require.NoError(t, err)
	require.Zero(t, result, "the watch on the stack brings it back")
	require.Empty(t, b.jobs())
	require.Nil(t, schedule.Status.NextScheduleTime)
	requireCondition(t, schedule, platformv1alpha1.ConditionReady, metav1.ConditionTrue, reasonSuspended, `AtlasStack "atlas" hibernates`)

	// Of three ticks that passed meanwhile, the last is made up for.
	b.now = b.now.Add(3 * time.Hour)
	asleep := stack.DeepCopy()
	stack.Spec.Hibernate = false
	require.NoError(t, b.client.Update(t.Context(), stack))
	require.True(t, fallsAsleepOrWakes.Update(event.UpdateEvent{ObjectOld: asleep, ObjectNew: stack}))
	require.False(t, fallsAsleepOrWakes.Update(event.UpdateEvent{ObjectOld: stack, ObjectNew: stack}))
	require.Equal(t, []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(schedule)}}, b.r.schedulesOf(t.Context(), stack))
	_, result, err = b.reconcile()
	require.NoError(t, err)
	require.Positive(t, result.RequeueAfter)
	require.Len(t, b.jobs(), 1)
}
