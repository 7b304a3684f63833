//go:build linux

package reindex

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/elastic/go-elasticsearch/v8"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	proc "github.com/atlas-platform/atlas/hack/devenv/process"
	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
	"github.com/atlas-platform/atlas/internal/postgres/pgtest"
	"github.com/atlas-platform/atlas/internal/testenv"
	"github.com/atlas-platform/atlas/internal/token"
)

// platform is Atlas as processes of the real program.
type platform struct {
	t       *testing.T
	pool    *pgxpool.Pool
	es      *elasticsearch.Client
	alias   string
	program string
	folder  string
	env     []string
	roles   []*process
	seed    *indexingtest.Seed
	token   string
	items   uuid.UUID // the collection
}

type process struct {
	role    string
	address string
	ops     string
	cmd     *exec.Cmd
}

// former puts the index template of a former release: another mapping, and another hash.
func former(t *testing.T, es *elasticsearch.Client, alias string) {
	def, err := elastic.Definition(elastic.Params{})
	require.NoError(t, err)
	def.Hash = strings.Repeat("01", 32)
	def.Mappings["_meta"] = map[string]any{"definition_hash": def.Hash}
	def.Mappings["properties"].(map[string]any)["former"] = map[string]any{"type": "keyword"}
	send(t, es, http.MethodPut, "/_index_template/"+elastic.TemplateName(alias), def.Template(alias))
	send(t, es, http.MethodPut, "/"+def.IndexName(alias, time.Now()), map[string]any{"aliases": map[string]any{alias: map[string]any{"is_write_index": true}}})
}

func send(t *testing.T, es *elasticsearch.Client, method, path string, body any) {
	t.Helper()
	raw, err := json.Marshal(body)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), method, path, strings.NewReader(string(raw)))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	res, err := es.Perform(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Less(t, res.StatusCode, 300, "%s", answer)
}

// start starts the processes on an index that a former release made.
func start(t *testing.T, roles ...string) *platform {
	t.Helper()
	uri, es, brokers := pgtest.NewURL(t), indexingtest.Client(t), kafkatest.Real(t)
	pool := pgtest.Open(t, uri)
	topic := kafkatest.NewTopic(t, brokers, 3)
	p := &platform{t: t, pool: pool, es: es, alias: "test-" + uuid.NewString(), folder: t.TempDir(), seed: indexingtest.NewSeed(t, pool)}
	indexingtest.DropWith(t, es, p.alias)
	former(t, es, p.alias)

	p.program = filepath.Join(p.folder, "atlas")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", p.program, "../../services").CombinedOutput()
	require.NoError(t, err, string(out))
	pem, err := token.GenerateSigningKey()
	require.NoError(t, err)
	key, err := token.ParseSigningKey(pem)
	require.NoError(t, err)
	keyFile := filepath.Join(p.folder, "key.pem")
	require.NoError(t, os.WriteFile(keyFile, pem, 0o600))
	p.env = []string{
		"PATH=" + os.Getenv("PATH"), "DATABASE_URL=" + uri, "KAFKA_BROKERS=" + strings.Join(brokers, ","), "KAFKA_TOPIC=" + topic,
		"KAFKA_GROUP_PREFIX=" + topic, "ELASTICSEARCH_URL=" + testenv.Require(t, testenv.ElasticsearchURL), "ELASTICSEARCH_INDEX=" + p.alias,
		"JWT_SIGNING_KEY_FILE=" + keyFile, "RATE_LIMIT=0", "LOG_FORMAT=text",
	}
	p.seed.Exec(t, "UPDATE users SET is_admin = true WHERE id = $1", p.seed.User)
	p.token, err = token.NewIssuer(key, "atlas", "atlas-api", time.Hour, nil).Mint(p.seed.User)
	require.NoError(t, err)
	t.Cleanup(p.logs)
	for _, role := range roles {
		r := &process{role: role, address: freeAddress(t), ops: freeAddress(t)}
		p.roles = append(p.roles, r)
		p.run(r)
		t.Cleanup(func() { r.kill() })
	}
	return p
}

// logs shows the ends of the processes' logs when something went wrong.
func (p *platform) logs() {
	files, _ := filepath.Glob(filepath.Join(p.folder, "*.log")) // the pattern is right
	for _, file := range files {
		if p.t.Failed() {
			p.t.Logf("the end of %s:\n%s", filepath.Base(file), proc.Tail(file, 12))
		}
	}
}

func (p *platform) run(r *process) {
	log, err := os.OpenFile(filepath.Join(p.folder, fmt.Sprintf("%s-%s.log", r.role, r.ops[len("127.0.0.1:"):])), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(p.t, err)
	defer func() { _ = log.Close() }()
	r.cmd = exec.CommandContext(context.WithoutCancel(p.t.Context()), p.program, r.role)
	r.cmd.Env = append([]string{"LISTEN_ADDR=" + r.address, "OPS_ADDR=" + r.ops}, p.env...)
	r.cmd.Stdout, r.cmd.Stderr = log, log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(p.t, r.cmd.Start())
}

func (r *process) kill() {
	if r.cmd.ProcessState == nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait() // killed: always an error
	}
}

func (p *platform) of(role string) (out []*process) {
	for _, r := range p.roles {
		if r.role == role {
			out = append(out, r)
		}
	}
	return out
}

// says tells whether a process's metrics have the line.
func (r *process) says(line string) bool {
	res, err := http.Get("http://" + r.ops + "/metrics")
	if err != nil {
		return false
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return err == nil && strings.Contains(string(body), "\n"+line+"\n")
}

// ready tells whether a process says that it is.
func (r *process) ready() bool {
	res, err := http.Get("http://" + r.ops + "/readyz")
	if err != nil {
		return false
	}
	defer func() { _ = res.Body.Close() }()
	return res.StatusCode == http.StatusOK
}

// check is atlas check.
func (p *platform) check() (string, int) {
	cmd := exec.CommandContext(p.t.Context(), p.program, "check", "--deep")
	cmd.Env = p.env
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

// fill makes items over the API, as a user would, so that their events are there too. The first ones have a word that all searches look for.
func (p *platform) fill(l *load, items int) {
	status, answer, err := l.call(http.MethodPost, "/v1/collections", map[string]any{"name": "all"})
	require.NoError(p.t, err)
	require.Equal(p.t, http.StatusCreated, status, answer)
	p.items = uuid.MustParse(answer["id"].(string))
	const batch = 5_000
	for from := 0; from < items; from += batch {
		var lines bytes.Buffer
		for n := from; n < min(from+batch, items); n++ {
			word := "seeded"
			if n < markers {
				word = "everlasting"
			}
			fmt.Fprintf(&lines, `{"title":"%s %d","content":%q}`+"\n", word, n, strings.Repeat("some words of a text ", 40))
		}
		status, answer, err := l.send(http.MethodPost, "/v1/collections/"+p.items.String()+"/items.ndjson", lines.Bytes(), "Content-Type", "application/x-ndjson")
		require.NoError(p.t, err)
		require.Equal(p.t, http.StatusOK, status, answer)
	}
}

func freeAddress(t *testing.T) string {
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(10_000))
		if l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address); err == nil {
			require.NoError(t, l.Close())
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}
