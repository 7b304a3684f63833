//go:build linux

package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/hack/devenv/process"
	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/token"
)

const partitions = 3

// platformBundle is Atlas: processes of every role, each behind a proxy of its own to PostgreSQL and Elasticsearch, all behind one to Kafka, whose
// broker advertises one address.
type platformBundle struct {
	t       testing.TB
	servers *serverBundle
	program string
	folder  string
	topic   string
	alias   string
	group   string
	// database is the URL without a proxy.
	database string
	env      []string
	kafka    *proxyBundle // nil: nothing is between
	roles    []*roleProcess
	// handed are events that a test gave to the trail itself, without the topic.
	handed []uuid.UUID
}

// roleProcess is one process of a role.
type roleProcess struct {
	platform *platformBundle
	name     string
	role     string
	address  string
	ops      string
	links    map[string]*proxyBundle // by server
	cmd      *exec.Cmd
}

// build compiles the program; overlay may name a file that replaces sources.
func build(t testing.TB, overlay string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "atlas")
	args := []string{"build", "-o", program}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	out, err := exec.CommandContext(t.Context(), "go", append(args, "../../services")...).CombinedOutput()
	require.NoError(t, err, string(out))
	return program
}

// newPlatform makes an empty Atlas on the servers and starts a process for each of the roles. Only where it is to be cut off from Kafka there is a proxy
// between, for one platform at a time.
func newPlatform(t testing.TB, b *serverBundle, program string, cut bool, roles ...string) *platformBundle {
	t.Helper()
	ctx := t.Context()
	name := "faults_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:12]
	p := &platformBundle{
		t: t, servers: b, program: program, folder: t.TempDir(), topic: "atlas." + name, alias: strings.ReplaceAll(name, "_", "-"), group: name, database: b.database(name),
	}
	admin, err := pgx.Connect(ctx, b.DatabaseURL)
	require.NoError(t, err)
	_, err = admin.Exec(ctx, "CREATE DATABASE "+name)
	require.NoError(t, err)
	require.NoError(t, admin.Close(ctx))
	brokers := []string{b.KafkaBrokers}
	require.NoError(t, kafka.EnsureTopic(ctx, brokers, kafka.TopicSpec{Name: p.topic, Partitions: partitions, ReplicationFactor: 1}))
	require.NoError(t, kafka.EnsureTopic(ctx, brokers, kafka.TopicSpec{Name: kafka.DeadLetterTopic(p.topic), Partitions: 1, ReplicationFactor: 1}))
	es, err := elastic.NewClient(elastic.Config{URLs: []string{b.ElasticsearchURL}})
	require.NoError(t, err)
	require.NoError(t, elastic.EnsureIndex(ctx, es, p.alias, elastic.Params{}))
	key, err := token.GenerateSigningKey()
	require.NoError(t, err)
	keyFile := filepath.Join(p.folder, "key.pem")
	require.NoError(t, os.WriteFile(keyFile, key, 0o600))
	p.env = []string{
		"PATH=" + os.Getenv("PATH"), "KAFKA_TOPIC=" + p.topic, "KAFKA_GROUP_PREFIX=" + p.group, "ELASTICSEARCH_INDEX=" + p.alias, "JWT_SIGNING_KEY_FILE=" + keyFile,
		"ACCESS_TOKEN_TTL=6h", "RATE_LIMIT=0", "LOG_FORMAT=text",
	}
	out, code := p.command("migrate")
	require.Zero(t, code, out)
	if cut {
		b.proxied.Lock() // there is one address for it
		t.Cleanup(b.proxied.Unlock)
		p.kafka = newProxy(t, kafkaServer, b.KafkaProxy, b.KafkaProxied)
	}
	for _, role := range roles {
		p.addRole(role)
	}
	for _, r := range p.roles {
		if r.role == "api" {
			r.waitReady()
		}
	}
	return p
}

// direct is the environment of a command that goes around the proxies.
func (p *platformBundle) direct() []string {
	return append([]string{
		"DATABASE_URL=" + p.database, "KAFKA_BROKERS=" + p.servers.KafkaBrokers, "ELASTICSEARCH_URL=" + p.servers.ElasticsearchURL,
	}, p.env...)
}

// command runs a command of the program and returns what it printed and its exit code.
func (p *platformBundle) command(args ...string) (output string, code int) {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), p.program, args...)
	cmd.Env = p.direct()
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		require.NoError(p.t, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// addRole starts one more process of a role.
func (p *platformBundle) addRole(role string) {
	name := fmt.Sprintf("%s%d", role, len(p.of(role))+1)
	r := &roleProcess{platform: p, name: name, role: role, address: freeAddress(p.t), ops: freeAddress(p.t), links: map[string]*proxyBundle{}}
	for _, server := range []string{postgres, elasticsearch} {
		r.links[server] = newProxy(p.t, name+"-"+server, "", p.servers.address(server))
	}
	r.links[kafkaServer] = p.kafka
	p.roles = append(p.roles, r)
	r.start()
	p.t.Cleanup(func() { _ = r.kill() }) // it may have ended
}

func (r *roleProcess) start() {
	p := r.platform
	log, err := os.OpenFile(filepath.Join(p.folder, r.name+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(p.t, err)
	defer log.Close()
	brokers := p.servers.KafkaBrokers
	if p.kafka != nil {
		brokers = p.kafka.address()
	}
	cmd := exec.CommandContext(context.Background(), p.program, r.role)
	cmd.Env = append([]string{
		"DATABASE_URL=" + at(p.t, p.database, r.links[postgres].address()), "ELASTICSEARCH_URL=http://" + r.links[elasticsearch].address(),
		"KAFKA_BROKERS=" + brokers, "LISTEN_ADDR=" + r.address, "OPS_ADDR=" + r.ops,
	}, p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(p.t, cmd.Start())
	r.cmd = cmd
}

// signal returns an error when the process has ended.
func (r *roleProcess) signal(signal syscall.Signal) error { return r.cmd.Process.Signal(signal) }

// kill ends the process at once.
func (r *roleProcess) kill() error {
	err := r.signal(syscall.SIGKILL)
	_ = r.cmd.Wait() // killed: always an error
	return err
}

// stop ends the process as Kubernetes does, and returns how long it took.
func (r *roleProcess) stop() (time.Duration, error) {
	began := time.Now()
	err := r.signal(syscall.SIGTERM)
	killer := time.AfterFunc(30*time.Second, func() { _ = r.signal(syscall.SIGKILL) })
	defer killer.Stop()
	_ = r.cmd.Wait() // an error when it was killed
	return time.Since(began), err
}

// waitReady waits until an API answers.
func (r *roleProcess) waitReady() {
	if !assert.Eventually(r.platform.t, func() bool {
		status, _, err := get(context.Background(), "http://"+r.ops+"/readyz")
		return err == nil && status == 200
	}, time.Minute, 50*time.Millisecond, "%s is not ready", r.name) {
		r.platform.logTails(true)
		r.platform.t.FailNow()
	}
}

// leads tells whether this API's relay leads.
func (r *roleProcess) leads() bool {
	_, body, err := get(context.Background(), "http://"+r.ops+"/metrics")
	return err == nil && strings.Contains(string(body), "\natlas_relay_leading 1\n")
}

func (p *platformBundle) of(role string) []*roleProcess {
	var out []*roleProcess
	for _, r := range p.roles {
		if r.role == role {
			out = append(out, r)
		}
	}
	return out
}

// logTails shows the end of each process's log when something went wrong.
func (p *platformBundle) logTails(wrong bool) {
	for _, r := range p.roles {
		if wrong {
			p.t.Logf("the end of %s's log:\n%s", r.name, process.Tail(filepath.Join(p.folder, r.name+".log"), 8))
		}
	}
}

// freeAddress picks a port below those that kernels use for outgoing connections and beside hack/devenv's: nobody takes it while its process is down.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(10_000))
		if l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address); err == nil {
			require.NoError(t, l.Close())
			return address
		}
	}
	t.Fatal("no port is free between 10000 and 20000 on 127.0.0.1")
	return ""
}
