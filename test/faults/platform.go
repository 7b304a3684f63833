//go:build linux

package faults

import (
	"context"
	"fmt"
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
	kafka    *proxyBundle
	roles    []*roleProcess
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

// newPlatform makes an empty Atlas on the servers and starts a process for each of the roles.
func newPlatform(t testing.TB, b *serverBundle, program string, roles ...string) *platformBundle {
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
	p.kafka = newProxy(t, kafkaServer, b.KafkaProxy, b.KafkaProxied)
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
	p.t.Cleanup(r.kill)
}

func (r *roleProcess) start() {
	p := r.platform
	log, err := os.OpenFile(filepath.Join(p.folder, r.name+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(p.t, err)
	defer log.Close()
	cmd := exec.CommandContext(context.Background(), p.program, r.role)
	cmd.Env = append([]string{
		"DATABASE_URL=" + at(p.t, p.database, r.links[postgres].address()), "ELASTICSEARCH_URL=http://" + r.links[elasticsearch].address(),
		"KAFKA_BROKERS=" + p.kafka.address(), "LISTEN_ADDR=" + r.address, "OPS_ADDR=" + r.ops,
	}, p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(p.t, cmd.Start())
	r.cmd = cmd
}

func (r *roleProcess) signal(signal syscall.Signal) { _ = r.cmd.Process.Signal(signal) }

// kill ends the process at once.
func (r *roleProcess) kill() {
	r.signal(syscall.SIGKILL)
	_ = r.cmd.Wait() // killed: always an error
}

// stop ends the process as Kubernetes does, and returns how long it took.
func (r *roleProcess) stop() time.Duration {
	began := time.Now()
	r.signal(syscall.SIGTERM)
	killer := time.AfterFunc(30*time.Second, func() { r.signal(syscall.SIGKILL) })
	defer killer.Stop()
	_ = r.cmd.Wait() // an error when it was killed
	return time.Since(began)
}

// waitReady waits until an API answers.
func (r *roleProcess) waitReady() {
	require.Eventually(r.platform.t, func() bool {
		status, _, err := get(context.Background(), "http://"+r.ops+"/readyz")
		return err == nil && status == 200
	}, time.Minute, 50*time.Millisecond, "%s is not ready", r.name)
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

func freeAddress(t testing.TB) string {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}
