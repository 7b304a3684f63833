package dev

import (
	"fmt"
	"os"

	"github.com/twmb/franz-go/pkg/kfake"
)

// broker is an embedded server that speaks Kafka's protocol and keeps its log in a folder. To the roles it is Kafka.
type broker struct {
	cluster *kfake.Cluster
}

// startBroker opens the log in dir. It asks for no topic: the log may have them already.
func startBroker(dir string) (*broker, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the broker's folder: %w", err)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(dir), kfake.SyncWrites())
	if err != nil {
		return nil, fmt.Errorf("start the embedded broker: %w", err)
	}
	return &broker{cluster: cluster}, nil
}

func (b *broker) addresses() []string { return b.cluster.ListenAddrs() }

func (b *broker) stop() { b.cluster.Close() }
