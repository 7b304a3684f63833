package atlasstack_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	k, e := &kafkaServer{address: namespace + ":9092", topics: map[string]topic.State{}, groups: map[string]bool{}}, &elasticServer{address: "http://" + namespace + ":9200"}
	s.kafka[k.address], s.elastic[e.address] = k, e
	return k, e
}

// alias makes a second address of a namespace's Kafka and Elasticsearch.
func (s *servers) alias(namespace, name string) (broker, address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	broker, address = name+":9092", "http://"+name+":9200"
	s.kafka[broker], s.elastic[address] = s.kafka[namespace+":9092"], s.elastic["http://"+namespace+":9200"]
	return broker, address
}

func (s *servers) connectTopic(_ context.Context, target topic.Target) (topic.Admin, error) {
	s.mu.Lock()
	server := s.kafka[target.Brokers[0]]
	s.mu.Unlock()
	server.mu.Lock()
	defer server.mu.Unlock()
	server.connections++
	if server.down {
		return nil, unreachable("no Kafka broker can be reached: " + target.Brokers[0] + " (connection refused)")
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
	groups      map[string]bool
	members     bool   // the groups have some
	deleting    func() // is called when a topic is deleted
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

func (k *kafkaServer) ClusterID(context.Context) (string, error) { return "id-of-" + k.address, nil }

func (k *kafkaServer) Delete(_ context.Context, name string) error {
	if k.deleting != nil {
		k.deleting()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.topics, name)
	return nil
}

func (k *kafkaServer) DeleteGroup(_ context.Context, name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.members && k.groups[name] {
		return &apply.Waiting{Reason: v1alpha1.ReasonProgressing, Message: "could not delete consumer group " + name + " yet: it still has members"}
	}
	delete(k.groups, name)
	return nil
}

func (k *kafkaServer) setMembers(members bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.members = members
}

// join makes the consumer groups that the pods would.
func (k *kafkaServer) join(names ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, name := range names {
		k.groups[name] = true
	}
}

// has are the names of the topics and groups.
func (k *kafkaServer) has() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append(slices.Sorted(maps.Keys(k.topics)), slices.Sorted(maps.Keys(k.groups))...)
}

func (k *kafkaServer) Close() error { return nil }

// elasticServer has a template, and an index behind an alias. What it has is as it was asked for, but for what drifted.
type elasticServer struct {
	address string

	mu                     sync.Mutex
	down                   bool
	template, index, alias bool
	otherTemplate          bool           // somebody has edited it
	foreign                bool           // the alias leads to an index of somebody else's
	hidden                 bool           // somebody has set a filter of the alias
	otherSettings          map[string]any // somebody has set these of the index
	former                 bool           // the index is of another definition
	target                 template.Target
}

var _ template.Admin = (*elasticServer)(nil)

func (e *elasticServer) setDown(down bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down = down
}

func (e *elasticServer) setFormer(former bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.former = former
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
	def, err := elastic.Definition(elastic.Params{})
	if err != nil {
		return elastic.IndexState{}, err
	}
	state, name := elastic.IndexState{}, alias+"-1"
	if e.template {
		state.Template = def.Template(alias)
		if e.otherTemplate {
			state.Template["priority"] = 1
		}
	}
	switch {
	case e.index && e.alias:
		settings := maps.Clone(def.Settings)
		maps.Copy(settings, e.otherSettings)
		hash := def.Hash
		if e.former {
			hash = "former"
		}
		state.Indices, state.DefinitionHashes = map[string]map[string]any{name: settings}, map[string]string{name: hash}
		lead := elastic.Lead{Write: true}
		if e.hidden {
			lead.Filter = map[string]any{"match_none": map[string]any{}}
		}
		state.Leads = map[string]elastic.Lead{name: lead}
	case e.index:
		state.Detached = []string{name}
	}
	if e.foreign {
		state.Foreign = []string{"theirs"}
	}
	return state, nil
}

func (e *elasticServer) Apply(_ context.Context, change elastic.IndexChange) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch what, _, _ := strings.Cut(change.Description, " "); what {
	case "put":
		e.template, e.otherTemplate = true, false
	case "create":
		if e.index {
			return errors.New("it has an index for the alias already")
		}
		e.index, e.alias = true, true
	case "lead":
		e.hidden = false
		if e.foreign { // an index that it led to before goes, one beside the other stays
			e.index, e.foreign = e.alias, false
			break
		}
		e.index, e.alias = true, true
	case "update":
		e.otherSettings = nil
	default:
		return fmt.Errorf("unknown change: %s", change.Description)
	}
	return nil
}

func (e *elasticServer) ClusterUUID(context.Context) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down {
		return "", unreachable("Elasticsearch at " + e.address + " can't be reached: connection refused")
	}
	return "uuid-of-" + e.address, nil
}

func (e *elasticServer) Drop(context.Context, string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.template, e.index, e.alias = false, false, false
	return nil
}

// has is what there is.
func (e *elasticServer) has() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.content()
}

func (e *elasticServer) content() string {
	return fmt.Sprintf("template %v edited %v index %v alias %v settings %v foreign %v hidden %v", e.template, e.otherTemplate, e.index, e.alias, e.otherSettings, e.foreign, e.hidden)
}

// there is true when all is.
func (e *elasticServer) there() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.template && e.index && e.alias
}

func (e *elasticServer) Close() {}
