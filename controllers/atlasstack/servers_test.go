package atlasstack_test

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/template"
	"github.com/atlas-platform/atlas/controllers/topic"
	"github.com/atlas-platform/atlas/internal/elastic"
)

// servers are stand-ins for Kafka and Elasticsearch, one of each for every namespace. The real ones are tested in the
// packages topic and template.
type servers struct {
	mu      sync.Mutex
	kafka   map[string]*kafkaServer
	elastic map[string]*elasticServer
}

func newServers() *servers {
	return &servers{kafka: map[string]*kafkaServer{}, elastic: map[string]*elasticServer{}}
}

func (s *servers) add(namespace string) (*kafkaServer, *elasticServer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, e := &kafkaServer{address: namespace + ":9092", topics: map[string]topic.State{}}, &elasticServer{address: "http://" + namespace + ":9200"}
	s.kafka[k.address], s.elastic[e.address] = k, e
	return k, e
}

func (s *servers) connectTopic(_ context.Context, brokers []string) (topic.Admin, error) {
	s.mu.Lock()
	server := s.kafka[brokers[0]]
	s.mu.Unlock()
	server.mu.Lock()
	defer server.mu.Unlock()
	server.connections++
	if server.down {
		return nil, unreachable("no Kafka broker can be reached: " + brokers[0] + " (connection refused)")
	}
	return server, nil
}

func (s *servers) connectIndex(_ context.Context, target template.Target) (template.Admin, error) {
	s.mu.Lock()
	server := s.elastic[target.Addresses[0]]
	s.mu.Unlock()
	server.mu.Lock()
	defer server.mu.Unlock()
	server.target = target
	return server, nil
}

func unreachable(message string) error {
	return &apply.Waiting{Reason: v1alpha1.ReasonUnreachable, Message: message, Lost: true, After: 100 * time.Millisecond}
}

type kafkaServer struct {
	address string

	mu          sync.Mutex
	down        bool
	connections int
	topics      map[string]topic.State
}

var _ topic.Admin = (*kafkaServer)(nil)

func (k *kafkaServer) setDown(down bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = down
}

func (k *kafkaServer) reconciliations() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.connections
}

func (k *kafkaServer) Describe(_ context.Context, name string) (*topic.State, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	state, found := k.topics[name]
	if !found {
		return nil, nil
	}
	state.Config = maps.Clone(state.Config)
	return &state, nil
}

func (k *kafkaServer) Create(_ context.Context, spec topic.Spec) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.topics[spec.Name] = topic.State{Partitions: spec.Partitions, ReplicationFactor: spec.ReplicationFactor, Config: maps.Clone(spec.Config)}
	return nil
}

func (k *kafkaServer) AddPartitions(_ context.Context, name string, total int32) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	state := k.topics[name]
	state.Partitions = total
	k.topics[name] = state
	return nil
}

func (k *kafkaServer) SetConfig(_ context.Context, name string, config map[string]string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.Copy(k.topics[name].Config, config)
	return nil
}

func (k *kafkaServer) Close() error { return nil }

// elasticServer has everything as asked once something was applied.
type elasticServer struct {
	address string

	mu      sync.Mutex
	down    bool
	applied bool
	target  template.Target
}

var _ template.Admin = (*elasticServer)(nil)

func (e *elasticServer) setDown(down bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down = down
}

func (e *elasticServer) credentials() template.Target {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.target
}

func (e *elasticServer) Observe(_ context.Context, alias string) (elastic.IndexState, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down {
		return elastic.IndexState{}, unreachable("Elasticsearch at " + e.address + " can't be reached: connection refused")
	}
	if !e.applied {
		return elastic.IndexState{}, nil
	}
	def, err := elastic.Definition(elastic.Params{})
	if err != nil {
		return elastic.IndexState{}, err
	}
	return elastic.IndexState{
		Template:         def.Template(alias),
		Indices:          map[string]map[string]any{alias + "-1": def.Settings},
		DefinitionHashes: map[string]string{alias + "-1": def.Hash},
	}, nil
}

func (e *elasticServer) Apply(context.Context, elastic.IndexChange) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.applied = true
	return nil
}

func (e *elasticServer) Close() {}
