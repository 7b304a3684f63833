package topic_test

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/topic"
)

func TestDropLeavesNothing(t *testing.T) {
	t.Parallel()
	admin, raw := connect(t), rawAdmin(t)
	spec, other := newSpec(t, raw), newSpec(t, raw)
	group := spec.Name + "-indexer"
	settle(t, admin, spec)
	settle(t, admin, other)
	commitOffset(t, group, spec.Name)

	id, err := admin.ClusterID(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, id)
	again, err := connect(t).ClusterID(t.Context())
	require.NoError(t, err)
	require.Equal(t, id, again)

	drop := func() error {
		return topic.Drop(t.Context(), admin, []string{group, spec.Name + "-audit"}, []string{spec.Name, spec.Name + ".dlq"})
	}
	_, waiting := apply.AsWaiting(drop())
	require.True(t, waiting, "a deletion must be seen before it counts")
	require.EventuallyWithT(t, func(c *assert.CollectT) { require.NoError(c, drop()) }, 20*time.Second, 100*time.Millisecond)
	topics, err := raw.ListTopics()
	require.NoError(t, err)
	require.NotContains(t, topics, spec.Name)
	require.Contains(t, topics, other.Name)
	require.NotContains(t, topics, ".", "asking for the identity creates nothing")
	groups, err := raw.ListConsumerGroups()
	require.NoError(t, err)
	require.NotContains(t, groups, group)
}

// commitOffset makes a consumer group without members.
func commitOffset(t *testing.T, group, name string) {
	t.Helper()
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V2_8_0_0
	client, err := sarama.NewClient(brokers(t), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		offsets, err := sarama.NewOffsetManagerFromClient(group, client)
		require.NoError(c, err)
		partition, err := offsets.ManagePartition(name, 0)
		require.NoError(c, err)
		partition.MarkOffset(1, "")
		offsets.Commit()
		require.NoError(c, partition.Close())
		require.NoError(c, offsets.Close())
	}, time.Minute, 100*time.Millisecond)
	raw := rawAdmin(t)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		groups, err := raw.ListConsumerGroups()
		require.NoError(c, err)
		require.Contains(c, groups, group)
	}, time.Minute, 100*time.Millisecond)
}
