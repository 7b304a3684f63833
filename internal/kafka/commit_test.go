package kafka_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
)

// TestACommitThatIsLostIsMadeAgain, although no further message comes: otherwise the group would seem to be behind for ever.
func TestACommitThatIsLostIsMadeAgain(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	brokers := cluster.ListenAddrs()
	topic := kafkatest.NewTopic(t, brokers, 1)
	cluster.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		return nil, errors.New("the connection is lost"), true
	})
	opts := options(t, brokers, topic)
	r := newRecorder(nil)
	kafkatest.Start(t, kafka.NewConsumer(opts, r).Run)
	kafkatest.Send(t, brokers, topic, "k", []byte("only"))
	require.Equal(t, []string{"only"}, r.wait(t, 1))
	committed(t, opts, 1)
}
