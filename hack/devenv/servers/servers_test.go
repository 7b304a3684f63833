package servers

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/hack/devenv/process"
)

// ownState is a state of this test alone, in a folder that the unprivileged users of the servers can enter.
func ownState(t *testing.T) *process.State {
	t.Helper()
	dir, err := os.MkdirTemp("", "servers-test-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	state := &process.State{Dir: filepath.Join(dir, filepath.Base(dir)+"-test"), Instance: process.TestInstance}
	t.Cleanup(func() {
		require.NoError(t, Down(context.Background(), state, false))
		require.NoError(t, state.Remove())
		require.NoError(t, os.RemoveAll(dir))
	})
	return state
}

func nothingGiven(string) string { return "" }

func TestUpStartsRealServersAndRepairsThem(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts three real servers")
	}
	ctx := t.Context()
	state := ownState(t)
	opts := Options{State: state, Console: process.NewConsole(testLog{t}), Getenv: nothingGiven}
	s, err := Up(ctx, opts)
	require.NoError(t, err)

	conn, err := pgx.Connect(ctx, s.DatabaseURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	// Tests' servers answer a commit before its log is written; this table must outlive the kill below.
	_, err = conn.Exec(ctx, "SET synchronous_commit = on")
	require.NoError(t, err)
	_, err = conn.Exec(ctx, "CREATE TABLE kept (id int)")
	require.NoError(t, err)
	admin, err := sarama.NewClusterAdmin([]string{s.KafkaBrokers}, nil)
	require.NoError(t, err)
	require.NoError(t, admin.CreateTopic("kept", &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1}, false))
	require.NoError(t, admin.Close())
	require.NoError(t, probeElasticsearch(s.ElasticsearchURL, nothingGiven)(ctx))
	wrong := map[string]string{"ELASTICSEARCH_API_KEY": "d3Jvbmc6a2V5"}
	require.ErrorContains(t, probeElasticsearch(s.ElasticsearchURL, func(name string) string { return wrong[name] })(ctx), "401", "credentials that are sent are checked")

	again, err := Up(ctx, opts)
	require.NoError(t, err)
	require.Equal(t, s, again)
	if s.How[kafkaName] != AsProcess {
		return // the rest is about processes
	}
	requireNodeListener(t, s)

	for _, name := range []string{postgresName, kafkaName} {
		p, ok := state.Find(name)
		require.True(t, ok)
		require.NoError(t, syscall.Kill(p.PID, syscall.SIGKILL))
	}
	repaired, err := Up(ctx, opts)
	require.NoError(t, err)
	require.Equal(t, s, repaired, "addresses and password are the same as before")
	conn, err = pgx.Connect(ctx, s.DatabaseURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, "SELECT id FROM kept")
	require.NoError(t, err)

	fromOwnEnv, err := Up(ctx, Options{State: state, Getenv: func(name string) string {
		for _, v := range s.Env() {
			if v.Name == name {
				return v.Value
			}
		}
		return ""
	}})
	require.NoError(t, err)
	require.Equal(t, s, fromOwnEnv, "a shell that knows the addresses doesn't turn them into given ones")

	procs, err := state.List()
	require.NoError(t, err)
	require.Len(t, procs, 3)
	require.NoError(t, Down(ctx, state, false))
	for _, p := range procs {
		require.False(t, p.Alive(), p.Name)
	}
	require.NoError(t, state.Remove())
	require.NoDirExists(t, state.Dir)
}

// requireNodeListener asks the listener for pods which address it gives its clients.
func requireNodeListener(t *testing.T, s *Servers) {
	t.Helper()
	_, port, found := strings.Cut(s.NodeKafkaBrokers, ":")
	require.True(t, found)
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	require.Contains(t, s.NodePorts, number)
	require.Len(t, s.NodePorts, 4)
	broker := sarama.NewBroker("127.0.0.1:" + port)
	require.NoError(t, broker.Open(sarama.NewConfig()))
	defer func() { _ = broker.Close() }()
	metadata, err := broker.GetMetadata(sarama.NewMetadataRequest(sarama.V2_8_0_0, nil))
	require.NoError(t, err)
	require.Len(t, metadata.Brokers, 1)
	require.Equal(t, s.NodeKafkaBrokers, metadata.Brokers[0].Addr())
}

func TestGivenAddressIsUsedAndTranslatedForPods(t *testing.T) {
	t.Parallel()
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked, _, _ = r.BasicAuth() }))
	t.Cleanup(server.Close)
	env := map[string]string{"ELASTICSEARCH_URL": server.URL, "ELASTICSEARCH_USERNAME": "someone"}
	u := &up{Options: Options{State: ownState(t), Getenv: func(name string) string { return env[name] }}, last: &Servers{}}
	e, err := u.elasticsearch(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, "someone", asked)
	port := strings.TrimPrefix(server.URL, "http://127.0.0.1:")
	require.Equal(t, "http://"+NodeAddress+":"+port, e.node)
	require.Equal(t, server.URL, e.host)
	require.Equal(t, "ELASTICSEARCH_URL", e.how)
	require.Len(t, e.ports, 1)
}

func TestGivenAddressThatDoesNotAnswerIsNamed(t *testing.T) {
	t.Parallel()
	env := map[string]string{"KAFKA_BROKERS": "127.0.0.1:1"}
	u := &up{Options: Options{State: ownState(t), Getenv: func(name string) string { return env[name] }}, last: &Servers{}}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := u.kafka(ctx, nil)
	require.ErrorContains(t, err, "the server given by KAFKA_BROKERS")
	require.ErrorContains(t, err, "unset KAFKA_BROKERS")
}

func TestJavaVersionIsReadFromOldAndNewForms(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int{
		`openjdk version "17.0.15" 2025-04-15`: 17, `java version "1.8.0_392"`: 1, `openjdk version "25" 2025-09-16`: 25,
	} {
		java := filepath.Join(t.TempDir(), "java")
		require.NoError(t, os.WriteFile(java, []byte("#!/bin/sh\necho '"+line+"' >&2\n"), 0o755))
		got, err := javaVersion(t.Context(), java)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestClusterIDNeverLooksLikeAFlag(t *testing.T) {
	t.Parallel()
	for range 1000 {
		id := clusterID()
		require.Len(t, id, 22)
		require.NotEqual(t, byte('-'), id[0])
	}
}

func TestConfigurationHoldsAddressesOfLoopbackOnly(t *testing.T) {
	t.Parallel()
	broker := brokerProperties(kafkaPorts{host: 1, node: 2, controller: 3, proxied: 4, proxy: 5, secured: 6, securedNode: 7}, "/data")
	require.Contains(t, broker, "listeners=PLAINTEXT://127.0.0.1:1,NODE://127.0.0.1:2,PROXIED://127.0.0.1:4,SECURED://127.0.0.1:6,SECURED_NODE://127.0.0.1:7,CONTROLLER://127.0.0.1:3\n")
	require.Contains(t, broker, "advertised.listeners=PLAINTEXT://127.0.0.1:1,NODE://"+NodeAddress+":2,PROXIED://127.0.0.1:5,SECURED://127.0.0.1:6,SECURED_NODE://"+NodeAddress+":7\n")
	node := nodeConfig("/es", 1, 2)
	require.Contains(t, node, "http.host: 127.0.0.1\n")
	require.Contains(t, node, "transport.host: 127.0.0.1\n")
	require.Equal(t, "-Xms1g\n", withoutGCLog("-Xms1g\n-Xlog:gc*:file=gc.log\n"))
}

// testLog shows the steps in the test's own output.
type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(string(bytes.TrimRight(b, "\n")))
	return len(b), nil
}
