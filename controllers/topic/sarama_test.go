package topic_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/topic"
	"github.com/atlas-platform/atlas/internal/testenv"
)

func brokers(t *testing.T) []string {
	t.Helper()
	list := testenv.Require(t, testenv.KafkaBrokers)
	return strings.Split(list, ",")
}

func connect(t *testing.T) topic.Admin {
	t.Helper()
	admin, err := topic.ConnectSarama(t.Context(), topic.Target{Brokers: brokers(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, admin.Close()) })
	return admin
}

// rawAdmin is a second way in, to look and to make drift.
func rawAdmin(t *testing.T) sarama.ClusterAdmin {
	t.Helper()
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V2_8_0_0
	admin, err := sarama.NewClusterAdmin(brokers(t), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = admin.Close() })
	return admin
}

// settle calls Ensure until it has nothing left to do.
func settle(t *testing.T, admin topic.Admin, spec topic.Spec) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, topic.Ensure(t.Context(), admin, spec))
	}, time.Minute, 100*time.Millisecond)
}

func newSpec(t *testing.T, raw sarama.ClusterAdmin) topic.Spec {
	t.Helper()
	name := "op-test-" + uuid.NewString()
	t.Cleanup(func() { _ = raw.DeleteTopic(name) })
	return topic.Spec{Name: name, Partitions: 2, ReplicationFactor: 1, Config: map[string]string{"retention.ms": "3600000"}}
}

func TestEnsureCreatesAndCorrectsDrift(t *testing.T) {
	t.Parallel()
	admin, raw := connect(t), rawAdmin(t)
	spec := newSpec(t, raw)

	waiting, ok := apply.AsWaiting(topic.Ensure(t.Context(), admin, spec))
	require.True(t, ok, "a change must be seen before it counts")
	require.Equal(t, v1alpha1.ReasonProgressing, waiting.Reason)
	settle(t, admin, spec)

	state, err := admin.Describe(t.Context(), spec.Name)
	require.NoError(t, err)
	require.Equal(t, int32(2), state.Partitions)
	require.Equal(t, int16(1), state.ReplicationFactor)
	require.Equal(t, "3600000", state.Config["retention.ms"])

	value := "1000"
	require.NoError(t, raw.IncrementalAlterConfig(sarama.TopicResource, spec.Name, map[string]sarama.IncrementalAlterConfigsEntry{
		"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value},
		"segment.ms":   {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value},
	}, false))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		state, err := admin.Describe(t.Context(), spec.Name)
		require.NoError(c, err)
		require.Equal(c, "1000", state.Config["retention.ms"])
	}, time.Minute, 50*time.Millisecond)
	spec.Partitions = 4
	settle(t, admin, spec)

	state, err = admin.Describe(t.Context(), spec.Name)
	require.NoError(t, err)
	require.Equal(t, int32(4), state.Partitions)
	require.Equal(t, "3600000", state.Config["retention.ms"])
	require.Equal(t, "1000", state.Config["segment.ms"], "a setting that the spec does not name is left as it is")

	spec.Partitions = 3
	_, stalled := apply.AsStalled(topic.Ensure(t.Context(), admin, spec))
	require.True(t, stalled)
}

func TestKafkaRefusals(t *testing.T) {
	t.Parallel()
	admin, raw := connect(t), rawAdmin(t)

	spec := newSpec(t, raw)
	spec.Config = map[string]string{"retention.ms": "soon"}
	stalled, ok := apply.AsStalled(topic.Ensure(t.Context(), admin, spec))
	require.True(t, ok)
	require.Contains(t, stalled.Message, "retention.ms")

	spec = newSpec(t, raw)
	spec.ReplicationFactor = 3
	waiting, ok := apply.AsWaiting(topic.Ensure(t.Context(), admin, spec))
	require.True(t, ok)
	require.Contains(t, waiting.Message, "replicationFactor")
	require.False(t, waiting.Lost)
}

func TestUnreachableBrokersAreNamed(t *testing.T) {
	t.Parallel()
	// A port that was free a moment ago refuses connections.
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = topic.ConnectSarama(ctx, topic.Target{Brokers: []string{address, "broker.invalid:9092"}})
	waiting, ok := apply.AsWaiting(err)
	require.True(t, ok, "%v", err)
	require.True(t, waiting.Lost)
	require.Contains(t, waiting.Message, address+" (connect: connection refused)")
	require.Contains(t, waiting.Message, "broker.invalid:9092 (")
	require.Contains(t, waiting.Message, "): check spec.kafka.brokers, and that network policies")
}

func TestSilentBrokerIsGivenUpSoon(t *testing.T) {
	t.Parallel()
	// The kernel accepts connections for a listener whose owner never does.
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })

	start := time.Now()
	_, err = topic.ConnectSarama(t.Context(), topic.Target{Brokers: []string{listener.Addr().String()}})
	waiting, ok := apply.AsWaiting(err)
	require.True(t, ok, "%v", err)
	require.True(t, waiting.Lost)
	require.Equal(t, "could not reach Kafka at "+listener.Addr().String()+": timed out: check spec.kafka.brokers, and that network policies and firewalls let the operator through", waiting.Message)
	require.Less(t, time.Since(start), 8*time.Second)
}
