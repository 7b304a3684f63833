package servers

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/atlas-platform/atlas/hack/devenv/process"
)

// Images of the official repositories on the default registry.
const (
	postgresImage      = "postgres:17.5"
	kafkaImage         = "apache/kafka:4.3.1"
	elasticsearchImage = "elasticsearch:8.19.7"
)

// instanceLabel marks the containers of an instance: only what carries it is ever ended.
const instanceLabel = "dev.atlas.instance"

// nodeNetwork is the network of kind's nodes.
const nodeNetwork = "kind"

// engineAnswers says whether there is a container engine, not just its client.
func engineAnswers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "docker", "version", "--format", "{{.Server.Version}}").Output()
	return err == nil && len(bytes.TrimSpace(out)) > 0
}

// container is one server as a container: published on 127.0.0.1, and reached from the node by its name.
type container struct {
	name, image string
	port        int // on the host and, for clients on the host, in the container
	inside      int
	env         []string
}

// ensure makes sure that the container runs and is on the node's network once that exists.
func (u *up) ensure(ctx context.Context, p *process.Progress, c container) error {
	state, err := docker(ctx, "ps", "-a", "--filter", "name=^/"+c.name+"$", "--filter", "label="+instanceLabel+"="+u.State.ID(), "--format", "{{.State}}")
	if err != nil {
		return err
	}
	switch state {
	case "running":
		p.Outcome("already running")
	case "":
		p.Set("pulling %s", c.image)
		args := []string{
			"run", "-d", "--name", c.name, "--label", instanceLabel + "=" + u.State.ID(),
			"-p", "127.0.0.1:" + strconv.Itoa(c.port) + ":" + strconv.Itoa(c.inside),
		}
		for _, v := range c.env {
			args = append(args, "-e", v)
		}
		if _, err := docker(ctx, append(args, c.image)...); err != nil {
			return err
		}
	default:
		if _, err := docker(ctx, "start", c.name); err != nil {
			return err
		}
	}
	return joinNodeNetwork(ctx, c.name)
}

func joinNodeNetwork(ctx context.Context, name string) error {
	if networks, err := docker(ctx, "network", "ls", "--filter", "name=^"+nodeNetwork+"$", "--format", "{{.Name}}"); err != nil || networks == "" {
		return err
	}
	joined, err := docker(ctx, "inspect", "--format", `{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}`, name)
	if err != nil {
		return err
	}
	for _, network := range strings.Fields(joined) {
		if network == nodeNetwork {
			return nil
		}
	}
	_, err = docker(ctx, "network", "connect", nodeNetwork, name)
	return err
}

// containerPort keeps the port of a container that exists: a running one makes it look taken.
func (u *up) containerPort(ctx context.Context, use, name string) (int, error) {
	if exists, err := docker(ctx, "ps", "-aq", "--filter", "name=^/"+name+"$"); err != nil {
		return 0, err
	} else if exists != "" {
		return u.State.KnownPort(use)
	}
	return u.State.Port(use)
}

func containerName(state *process.State, server string) string {
	return "atlas-" + state.ID() + "-" + server
}

func (u *up) postgresContainer(ctx context.Context, p *process.Progress) (endpoint, error) {
	c := container{name: containerName(u.State, postgresName), image: postgresImage, inside: 5432}
	password, err := u.containerPassword()
	if err != nil {
		return endpoint{}, err
	}
	if c.port, err = u.containerPort(ctx, postgresName, c.name); err != nil {
		return endpoint{}, err
	}
	c.env = []string{"POSTGRES_USER=atlas", "POSTGRES_DB=atlas", "POSTGRES_PASSWORD=" + password}
	if err := u.ensure(ctx, p, c); err != nil {
		return endpoint{}, err
	}
	e := endpoint{
		host: "postgres://atlas:" + password + "@" + onHost(c.port) + "/atlas?sslmode=disable",
		node: "postgres://atlas:" + password + "@" + c.name + ":5432/atlas?sslmode=disable", how: AsContainer,
	}
	return e, u.containerReady(ctx, c.name, probePostgres(e.host))
}

// containerPassword is made up once and kept with the state.
func (u *up) containerPassword() (string, error) {
	path := u.State.Path("postgres-container.password")
	if content, err := os.ReadFile(path); err == nil {
		return string(content), nil
	}
	password := rand.Text()
	if err := process.WriteFile(path, []byte(password), 0o600); err != nil {
		return "", fmt.Errorf("write password: %w", err)
	}
	return password, nil
}

func (u *up) kafkaContainer(ctx context.Context, p *process.Progress) (endpoint, error) {
	c := container{name: containerName(u.State, kafkaName), image: kafkaImage}
	var err error
	if c.port, err = u.containerPort(ctx, kafkaName, c.name); err != nil {
		return endpoint{}, err
	}
	c.inside = 9092
	c.env = []string{
		"KAFKA_NODE_ID=1", "KAFKA_PROCESS_ROLES=broker,controller", "KAFKA_CONTROLLER_QUORUM_VOTERS=1@localhost:9093",
		"KAFKA_LISTENERS=PLAINTEXT://:9092,NODE://:19092,INTERNAL://localhost:29092,CONTROLLER://:9093",
		"KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://" + onHost(c.port) + ",NODE://" + c.name + ":19092,INTERNAL://localhost:29092",
		"KAFKA_INTER_BROKER_LISTENER_NAME=INTERNAL", "KAFKA_CONTROLLER_LISTENER_NAMES=CONTROLLER",
		"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,NODE:PLAINTEXT,INTERNAL:PLAINTEXT",
		"KAFKA_AUTO_CREATE_TOPICS_ENABLE=false", "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=1", "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS=4",
		"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR=1", "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR=1", "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS=4",
		"KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR=1", "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR=1",
		"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS=0", "KAFKA_HEAP_OPTS=-Xms256m -Xmx512m",
	}
	if err := u.ensure(ctx, p, c); err != nil {
		return endpoint{}, err
	}
	e := endpoint{host: onHost(c.port), node: c.name + ":19092", how: AsContainer}
	return e, u.containerReady(ctx, c.name, probeKafka(e.host))
}

func (u *up) elasticsearchContainer(ctx context.Context, p *process.Progress) (endpoint, error) {
	c := container{
		name: containerName(u.State, elasticsearchName), image: elasticsearchImage, inside: 9200,
		env: append(u.elasticsearchSecurity("="), "discovery.type=single-node", "cluster.routing.allocation.disk.threshold_enabled=false",
			"ES_JAVA_OPTS=-Xms512m -Xmx512m"),
	}
	var err error
	if c.port, err = u.containerPort(ctx, elasticsearchName, c.name); err != nil {
		return endpoint{}, err
	}
	if err := u.ensure(ctx, p, c); err != nil {
		return endpoint{}, err
	}
	e := endpoint{host: "http://" + onHost(c.port), node: "http://" + c.name + ":9200", how: AsContainer}
	return e, u.containerReady(ctx, c.name, probeElasticsearch(e.host, noCredentials))
}

func (u *up) containerReady(ctx context.Context, name string, ask probe) error {
	err := await(ctx, readyTimeout, ask, nil)
	if err == nil {
		return nil
	}
	logs, logErr := exec.CommandContext(context.WithoutCancel(ctx), "docker", "logs", "--tail", "15", name).CombinedOutput()
	return errors.Join(fmt.Errorf("container %s: %w; the end of its log:\n%s", name, err, logs), logErr)
}

// removeContainers ends the instance's containers, and removes them with their data unless that is kept.
func removeContainers(ctx context.Context, state *process.State, keepData bool) error {
	if !engineAnswers(ctx) {
		return nil
	}
	out, err := docker(ctx, "ps", "-aq", "--filter", "label="+instanceLabel+"="+state.ID())
	if err != nil || out == "" {
		return err
	}
	verb := []string{"rm", "--force", "--volumes"}
	if keepData {
		verb = []string{"stop"}
	}
	_, err = docker(ctx, append(verb, strings.Fields(out)...)...)
	return err
}

// docker runs the client and returns its output. Arguments stay out of the error: they may hold a password.
func docker(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// ContainerLog shows the log of a server that runs as a container.
func ContainerLog(ctx context.Context, state *process.State, server string, lines int, follow bool, out io.Writer) error {
	args := []string{"logs", "--tail", strconv.Itoa(lines)}
	if follow {
		args = append(args, "--follow")
	}
	cmd := exec.CommandContext(ctx, "docker", append(args, containerName(state, server))...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("docker logs: %w", err)
	}
	return nil
}
