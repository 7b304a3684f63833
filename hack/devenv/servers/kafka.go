package servers

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/atlas-platform/atlas/hack/devenv/process"
	"github.com/atlas-platform/atlas/internal/pgserver"
)

// kafkaPorts: one for clients on this host, one whose advertised address is the node's, one for the controller, one whose advertised address is another
// port, for a test's proxy, and two with TLS and SASL, for this host and for the node.
type kafkaPorts struct{ host, node, controller, proxied, proxy, secured, securedNode int }

func (u *up) kafka(ctx context.Context, p *process.Progress) (endpoint, error) {
	if address := u.given("KAFKA_BROKERS", kafkaName, u.last.KafkaBrokers); address != "" {
		return external(ctx, p, "KAFKA_BROKERS", address, probeKafka(address))
	}
	if running, ok := u.State.Find(kafkaName); ok {
		ports, err := kafkaPortsFrom(func(use string) (int, error) {
			port, err := u.State.KnownPort(use)
			if strings.HasPrefix(use, kafkaName+"-prox") || strings.HasPrefix(use, kafkaName+"-secured") {
				return port, nil // none: it was started by a program from before the listener
			}
			return port, err
		})
		if err != nil {
			return endpoint{}, err
		}
		err = u.attached(ctx, p, running, probeKafka(onHost(ports.host)))
		if !errors.Is(err, errEnded) {
			return u.kafkaEndpoint(ports), err
		}
	}
	if u.docker {
		return u.kafkaContainer(ctx, p)
	}
	ports, err := kafkaPortsFrom(func(use string) (int, error) {
		if port, err := u.State.KnownPort(use); err == nil && use == kafkaName+"-proxy" {
			return port, nil // a proxy listens there
		}
		return u.State.Port(use)
	})
	if err != nil {
		return endpoint{}, err
	}
	java, err := findJava(ctx, p)
	if err != nil {
		return endpoint{}, err
	}
	lib, err := distribution(ctx, p, kafkaName, "45 MB", nil)
	if err != nil {
		return endpoint{}, err
	}
	account, err := pgserver.Unprivileged("nobody")
	if err != nil {
		return endpoint{}, err
	}
	k := kafkaHome{dir: u.State.Path(kafkaName), classpath: filepath.Join(lib, "*"), java: java, account: account}
	if err := k.prepare(ctx, p, ports); err != nil {
		return endpoint{}, err
	}
	p.Set("starting")
	started, err := u.State.Start(process.Spec{
		Name: kafkaName, Path: java, Dir: k.dir, Env: k.env(), Credential: account.Credential(),
		Args: []string{
			"-Xmx512m", "-Xms256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
			"-Dorg.slf4j.simpleLogger.showDateTime=true",
			"-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS", "-cp", k.classpath, "kafka.Kafka", k.properties(),
		},
		StopGrace: 20 * time.Second, Address: onHost(ports.host),
	})
	if err != nil {
		return endpoint{}, err
	}
	return u.kafkaEndpoint(ports), u.started(ctx, started, probeKafka(onHost(ports.host)))
}

func kafkaPortsFrom(port func(string) (int, error)) (kafkaPorts, error) {
	var ports kafkaPorts
	var err error
	if ports.host, err = port(kafkaName); err != nil {
		return ports, err
	}
	if ports.node, err = port(kafkaName + "-node"); err != nil {
		return ports, err
	}
	if ports.controller, err = port(kafkaName + "-controller"); err != nil {
		return ports, err
	}
	if ports.proxied, err = port(kafkaName + "-proxied"); err != nil {
		return ports, err
	}
	if ports.proxy, err = port(kafkaName + "-proxy"); err != nil {
		return ports, err
	}
	if ports.secured, err = port(kafkaName + "-secured"); err != nil {
		return ports, err
	}
	ports.securedNode, err = port(kafkaName + "-secured-node")
	return ports, err
}

func (u *up) kafkaEndpoint(ports kafkaPorts) endpoint {
	e := endpoint{host: onHost(ports.host), node: atNode(ports.node), ports: []int{ports.node}, how: AsProcess}
	if ports.proxied != 0 && ports.proxy != 0 {
		e.proxied, e.proxy = onHost(ports.proxied), onHost(ports.proxy)
	}
	if ports.secured != 0 {
		e.secured, e.certificates = onHost(ports.secured), filepath.Join(u.State.Path(kafkaName), "secured")
	}
	if ports.securedNode != 0 {
		e.securedNode, e.ports = atNode(ports.securedNode), append(e.ports, ports.securedNode)
	}
	return e
}

// kafkaHome is the folder of one broker.
type kafkaHome struct {
	dir, classpath, java string
	account              *pgserver.Account
}

func (k kafkaHome) properties() string { return filepath.Join(k.dir, "server.properties") }

func (k kafkaHome) env() []string { return []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"} }

// prepare writes the configuration, which holds the ports and so may change, and formats the storage once. The mark is
// set after the formatting: what an interrupted one left is thrown away.
func (k kafkaHome) prepare(ctx context.Context, p *process.Progress, ports kafkaPorts) error {
	data := filepath.Join(k.dir, "data")
	if err := os.MkdirAll(k.dir, 0o755); err != nil {
		return fmt.Errorf("create Kafka's folder: %w", err)
	}
	if err := k.account.CanTraverse(k.dir); err != nil {
		return err
	}
	secured := filepath.Join(k.dir, "secured")
	if err := securedFiles(secured); err != nil {
		return err
	}
	if err := process.WriteFile(k.properties(), []byte(brokerProperties(ports, data)+securedProperties(secured)), 0o644); err != nil {
		return fmt.Errorf("configure Kafka: %w", err)
	}
	mark := filepath.Join(k.dir, "formatted")
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	p.Set("formatting the storage")
	if err := os.RemoveAll(data); err != nil {
		return fmt.Errorf("format Kafka's storage: %w", err)
	}
	if err := os.Mkdir(data, 0o755); err != nil {
		return fmt.Errorf("format Kafka's storage: %w", err)
	}
	if err := k.account.Own(data); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, k.java, "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", k.classpath, "kafka.tools.StorageTool",
		"format", "--standalone", "-t", clusterID(), "-c", k.properties())
	cmd.Dir, cmd.Env = k.dir, k.env()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: k.account.Credential()}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := process.Run(cmd); err != nil {
		return fmt.Errorf("format Kafka's storage: %w:\n%s", err, strings.TrimSpace(out.String()))
	}
	return os.WriteFile(mark, nil, 0o600)
}

// clusterID returns a UUID as Kafka writes it: URL-safe base64. One that starts with a dash would look like a flag.
func clusterID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[0] &= 0x7f
	return base64.RawURLEncoding.EncodeToString(id[:])
}

func brokerProperties(ports kafkaPorts, data string) string {
	return fmt.Sprintf(`process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=%[3]s
listeners=PLAINTEXT://%[1]s,NODE://%[2]s,PROXIED://%[6]s,SECURED://%[8]s,SECURED_NODE://%[9]s,CONTROLLER://%[3]s
advertised.listeners=PLAINTEXT://%[1]s,NODE://%[4]s,PROXIED://%[7]s,SECURED://%[8]s,SECURED_NODE://%[10]s
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,NODE:PLAINTEXT,PROXIED:PLAINTEXT,SECURED:SASL_SSL,SECURED_NODE:SASL_SSL
log.dirs=%[5]s
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
`, onHost(ports.host), onHost(ports.node), onHost(ports.controller), atNode(ports.node), data, onHost(ports.proxied), onHost(ports.proxy), onHost(ports.secured),
		onHost(ports.securedNode), atNode(ports.securedNode))
}
