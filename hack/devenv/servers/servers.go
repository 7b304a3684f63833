// Package servers starts the real PostgreSQL, Kafka and Elasticsearch that development and tests run against, and says
// where they are. Addresses given by the user come first, then containers when an engine answers, then local processes.
package servers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/atlas-platform/atlas/hack/devenv/process"
	"github.com/atlas-platform/atlas/internal/envfile"
)

// NodeAddress is the host's address on the link to the Kubernetes node. Each of Servers.NodePorts is reachable there,
// inside the node, by a forwarder to the same port on the host's 127.0.0.1.
const NodeAddress = "198.18.77.2"

const (
	postgresName      = "postgres"
	kafkaName         = "kafka"
	elasticsearchName = "elasticsearch"
)

// Values of Servers.How.
const (
	AsProcess   = "process"
	AsContainer = "container"
)

// readyTimeout bounds the wait for one server, from its start to its first answer.
const readyTimeout = 90 * time.Second

// Servers says where the three servers are.
type Servers struct {
	// As reached from this host. DatabaseURL holds a password.
	DatabaseURL      string `json:"databaseURL"`
	KafkaBrokers     string `json:"kafkaBrokers"`
	ElasticsearchURL string `json:"elasticsearchURL"`
	// As reached from pods.
	NodeDatabaseURL      string `json:"nodeDatabaseURL"`
	NodeKafkaBrokers     string `json:"nodeKafkaBrokers"`
	NodeElasticsearchURL string `json:"nodeElasticsearchURL"`
	// NodePorts are the ports on 127.0.0.1 that pods must reach at NodeAddress.
	NodePorts []int `json:"nodePorts"`
	// Unreachable names what the user gave and pods of the node can't reach, and why. Without pods it doesn't matter.
	Unreachable []string `json:"unreachable,omitempty"`
	// KafkaProxied is a listener of Kafka whose advertised address is KafkaProxy, where nobody listens: a test puts a proxy there. Empty where Kafka
	// is not a process of this instance.
	KafkaProxied string `json:"kafkaProxied,omitempty"`
	KafkaProxy   string `json:"kafkaProxy,omitempty"`
	// KafkaSecured is a listener with TLS, client certificates and SASL, NodeKafkaSecured another one for pods, and KafkaCertificates the folder with the files
	// SecuredCA and others. Empty where Kafka is not a process of this instance.
	KafkaSecured      string `json:"kafkaSecured,omitempty"`
	NodeKafkaSecured  string `json:"nodeKafkaSecured,omitempty"`
	KafkaCertificates string `json:"kafkaCertificates,omitempty"`
	// How says for each server how it runs: "process", "container" or the variable that gave its address.
	How map[string]string `json:"how"`
}

// Env returns the servers as the variables that the services read.
func (s *Servers) Env() []process.Var {
	vars := []process.Var{
		{Name: "DATABASE_URL", Value: s.DatabaseURL},
		{Name: "KAFKA_BROKERS", Value: s.KafkaBrokers},
		{Name: "ELASTICSEARCH_URL", Value: s.ElasticsearchURL},
	}
	if s.KafkaSecured != "" {
		vars = append(vars, process.Var{Name: "SECURED_KAFKA_BROKERS", Value: s.KafkaSecured},
			process.Var{Name: "SECURED_KAFKA_CERTIFICATES", Value: s.KafkaCertificates})
	}
	if s.NodeKafkaSecured != "" {
		vars = append(vars, process.Var{Name: "SECURED_KAFKA_NODE_BROKERS", Value: s.NodeKafkaSecured})
	}
	return vars
}

// Options are what Up needs.
type Options struct {
	// State is the instance that owns the servers. Those of the instance "test" trade safety of data for speed.
	State *process.State
	// Console reports the steps; nil is silent.
	Console *process.Console
	// Processes keeps the servers from being containers: a test wants to do things to them.
	Processes bool
	// Getenv looks up the addresses given by the user; nil means os.Getenv.
	Getenv func(string) string
}

// endpoint is where one server is.
type endpoint struct {
	host, node string
	ports      []int
	how        string
	// proxied and proxy are Servers.KafkaProxied and KafkaProxy.
	proxied, proxy string
	// secured, securedNode and certificates are Servers.KafkaSecured, NodeKafkaSecured and KafkaCertificates.
	secured, securedNode, certificates string
	// unreachable says why pods of the node can't reach it; empty when they can.
	unreachable string
}

// Up makes sure that the three servers run and answer. What runs already is left alone. It holds the state's lock, so
// commands and tests may call it at the same time.
func Up(ctx context.Context, opts Options) (*Servers, error) {
	if opts.Getenv == nil {
		opts.Getenv = os.Getenv
	}
	unlock, err := opts.State.Lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := opts.State.Create(); err != nil {
		return nil, err
	}
	last, err := Load(opts.State)
	if err != nil {
		last = &Servers{}
	}
	u := &up{Options: opts, last: last, docker: !opts.Processes && engineAnswers(ctx)}

	var pg, kafka, es endpoint
	var errs [3]error
	var wg sync.WaitGroup
	wg.Go(func() { pg, errs[0] = u.step(ctx, "PostgreSQL", u.postgres) })
	wg.Go(func() { kafka, errs[1] = u.step(ctx, "Kafka", u.kafka) })
	wg.Go(func() { es, errs[2] = u.step(ctx, "Elasticsearch", u.elasticsearch) })
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	s := &Servers{
		DatabaseURL: pg.host, KafkaBrokers: kafka.host, ElasticsearchURL: es.host,
		NodeDatabaseURL: pg.node, NodeKafkaBrokers: kafka.node, NodeElasticsearchURL: es.node,
		KafkaProxied: kafka.proxied, KafkaProxy: kafka.proxy, KafkaSecured: kafka.secured, NodeKafkaSecured: kafka.securedNode,
		KafkaCertificates: kafka.certificates,
		How:               map[string]string{postgresName: pg.how, kafkaName: kafka.how, elasticsearchName: es.how},
	}
	for _, e := range []endpoint{pg, kafka, es} {
		s.NodePorts = append(s.NodePorts, e.ports...)
		if e.unreachable != "" {
			s.Unreachable = append(s.Unreachable, e.unreachable)
		}
	}
	return s, s.save(opts.State)
}

// up is one run of Up.
type up struct {
	Options
	last   *Servers
	docker bool
}

func (u *up) step(ctx context.Context, title string, fn func(context.Context, *process.Progress) (endpoint, error)) (endpoint, error) {
	var e endpoint
	err := u.Console.Step(ctx, title, func(ctx context.Context, p *process.Progress) error {
		var err error
		e, err = fn(ctx, p)
		return err
	})
	return e, err
}

// given returns the address that the user set in a variable, unless it is an environment's own, as it is in a shell that has read
// `.run/env` or `devenv env`.
func (u *up) given(variable, name, own string) string {
	value := envfile.Given(u.Getenv, variable)
	if how := u.last.How[name]; value == own && (how == AsProcess || how == AsContainer) {
		return ""
	}
	return value
}

// Load returns what the last Up of the instance found; fs.ErrNotExist when there was none.
func Load(state *process.State) (*Servers, error) {
	data, err := os.ReadFile(state.Path("servers.json"))
	if err != nil {
		return nil, fmt.Errorf("read servers: %w", err)
	}
	s := &Servers{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("read servers: %w", err)
	}
	return s, nil
}

func (s *Servers) save(state *process.State) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write servers: %w", err)
	}
	if err := process.WriteFile(state.Path("servers.json"), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write servers: %w", err)
	}
	return nil
}

// Down ends the servers that Up started. Their data stays in the state's folder; containers keep theirs with keepData.
func Down(ctx context.Context, state *process.State, keepData bool) error {
	if _, err := os.Stat(state.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	unlock, err := state.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	names := []string{postgresName, kafkaName, elasticsearchName}
	errs := make([]error, len(names)+1)
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { errs[i] = state.Stop(ctx, name) })
	}
	wg.Go(func() { errs[len(names)] = removeContainers(ctx, state, keepData) })
	wg.Wait()
	return errors.Join(errs...)
}
