package kafka_test

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
)

// TestConsumerAndProducerSurviveABrokerRestart uses the broker of `atlas dev`, which keeps its data in a folder.
func TestConsumerAndProducerSurviveABrokerRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start := func(port int) *kfake.Cluster {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(dir), kfake.GroupMinSessionTimeout(time.Second))
		require.NoError(t, err)
		return cluster
	}
	cluster := start(0)
	brokers := cluster.ListenAddrs()
	_, portText, err := net.SplitHostPort(brokers[0])
	require.NoError(t, err)
	port, err := strconv.Atoi(portText)
	require.NoError(t, err)

	topic := kafkatest.NewTopic(t, brokers, 1)
	r := newRecorder(nil)
	consumer := kafka.NewConsumer(options(t, brokers, topic), r)
	kafkatest.Start(t, consumer.Run)
	kafkatest.Send(t, brokers, topic, "k", []byte("before"))
	require.Equal(t, []string{"before"}, r.wait(t, 1))

	cluster.Close()
	require.Eventually(t, func() bool { return consumer.Ready(context.Background()) != nil }, patience, 20*time.Millisecond)
	t.Cleanup(start(port).Close)
	kafkatest.Send(t, brokers, topic, "k", []byte("after"))
	require.Equal(t, "after", last(r.wait(t, 1)))
	require.Eventually(t, func() bool { return consumer.Ready(context.Background()) == nil }, patience, 20*time.Millisecond)
}

func last(values []string) string { return values[len(values)-1] }
