package topic_test

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/topic"
)

// TestOtherTopicsAreNotAskedAbout, which on a Kafka with thousands of them is most of the work of a pass that changes nothing.
func TestOtherTopicsAreNotAskedAbout(t *testing.T) {
	t.Parallel()
	kafka, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(1, "theirs"))
	require.NoError(t, err)
	t.Cleanup(kafka.Close)
	var asked, askedAll atomic.Int32
	kafka.ControlKey(int16(kmsg.Metadata), func(request kmsg.Request) (kmsg.Response, error, bool) {
		kafka.KeepControl()
		asked.Add(1)
		if metadata, ok := request.(*kmsg.MetadataRequest); ok && metadata.Topics == nil {
			askedAll.Add(1)
		}
		return nil, nil, false
	})
	admin, err := topic.ConnectSarama(t.Context(), topic.Target{Brokers: kafka.ListenAddrs()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, admin.Close()) })
	settle(t, admin, topic.Spec{Name: "ours", Partitions: 2, ReplicationFactor: 3})
	id, err := admin.ClusterID(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, id)
	require.Positive(t, asked.Load())
	require.Zero(t, askedAll.Load())
}

// TestNoController is an election that is not over: a matter of time, not of the spec.
func TestNoController(t *testing.T) {
	t.Parallel()
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(kafka.Close)
	kafka.ControlKey(int16(kmsg.Metadata), func(request kmsg.Request) (kmsg.Response, error, bool) {
		kafka.KeepControl()
		answer, ok := request.ResponseKind().(*kmsg.MetadataResponse)
		require.True(t, ok)
		broker := kmsg.NewMetadataResponseBroker()
		broker.NodeID, broker.Host, broker.Port = 0, "127.0.0.1", 9
		answer.Brokers, answer.ControllerID = []kmsg.MetadataResponseBroker{broker}, -1
		return answer, nil, true
	})
	_, err = topic.ConnectSarama(t.Context(), topic.Target{Brokers: kafka.ListenAddrs()})
	waiting, ok := apply.AsWaiting(err)
	require.True(t, ok, "%v", err)
	require.True(t, waiting.Lost)
	require.Contains(t, waiting.Message, "controller is not available")
}
