package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/atlas-platform/atlas/hack/devenv/process"
	"github.com/atlas-platform/atlas/internal/pgserver"
)

func (u *up) elasticsearch(ctx context.Context, p *process.Progress) (endpoint, error) {
	if address := u.given("ELASTICSEARCH_URL", elasticsearchName, u.last.ElasticsearchURL); address != "" {
		return external(ctx, p, "ELASTICSEARCH_URL", address, probeElasticsearch(address, u.Getenv))
	}
	dir := u.State.Path(elasticsearchName)
	if running, ok := u.State.Find(elasticsearchName); ok {
		e, err := u.attachElasticsearch(ctx, p, running, pidFile(dir))
		if !errors.Is(err, errEnded) {
			return e, err
		}
	}
	if u.docker {
		return u.elasticsearchContainer(ctx, p)
	}
	port, err := u.State.Port(elasticsearchName)
	if err != nil {
		return endpoint{}, err
	}
	transport, err := u.State.Port(elasticsearchName + "-transport")
	if err != nil {
		return endpoint{}, err
	}
	java, err := findJava(ctx, p)
	if err != nil {
		return endpoint{}, err
	}
	home, err := distribution(ctx, p, elasticsearchName, "920 MB, of which 120 MB are kept", func(dir string) error {
		return os.Mkdir(filepath.Join(dir, "plugins"), 0o755)
	})
	if err != nil {
		return endpoint{}, err
	}
	account, err := pgserver.Unprivileged("nobody")
	if err != nil {
		return endpoint{}, err
	}
	if err := prepareElasticsearch(home, dir, u.State.LogPath(elasticsearchName), strings.Join(u.elasticsearchSecurity(": "), "\n")+"\n", port, transport, account); err != nil {
		return endpoint{}, err
	}
	p.Set("starting")
	started, err := u.startElasticsearch(ctx, home, dir, java, port, account)
	if err != nil {
		return endpoint{}, u.State.WithLog(elasticsearchName, err)
	}
	return elasticsearchEndpoint(port), u.started(ctx, started, probeElasticsearch("http://"+onHost(port), noCredentials))
}

func (u *up) attachElasticsearch(ctx context.Context, p *process.Progress, running *process.Process, pidFile string) (endpoint, error) {
	port, err := u.State.KnownPort(elasticsearchName)
	if err != nil {
		return endpoint{}, err
	}
	server, err := u.settle(ctx, running, pidFile)
	if err != nil {
		return endpoint{}, u.State.WithLog(elasticsearchName, err)
	}
	return elasticsearchEndpoint(port), u.attached(ctx, p, server, probeElasticsearch("http://"+onHost(port), noCredentials))
}

func elasticsearchEndpoint(port int) endpoint {
	return endpoint{host: "http://" + onHost(port), node: "http://" + atNode(port), ports: []int{port}, how: AsProcess}
}

func noCredentials(string) string { return "" }

func pidFile(dir string) string { return filepath.Join(dir, "tmp", "pid") }

// startElasticsearch runs the launcher, which puts the server into the background, writes its pid and ends. Without
// that the launcher would stay, a second Java virtual machine that does nothing.
func (u *up) startElasticsearch(ctx context.Context, home, dir, java string, port int, account *pgserver.Account) (*process.Process, error) {
	if err := os.Remove(pidFile(dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("start Elasticsearch: %w", err)
	}
	launcher, err := u.State.Start(process.Spec{
		Name: elasticsearchName, Path: "bash", Args: []string{filepath.Join(home, "bin", "elasticsearch-cli"), "-d", "-p", pidFile(dir)},
		Dir: dir, Credential: account.Credential(), StopGrace: 20 * time.Second, Address: onHost(port),
		Env: []string{
			"PATH=/usr/bin:/bin", "HOSTNAME=localhost", "LC_ALL=C.UTF-8", "ES_JAVA_HOME=" + filepath.Dir(filepath.Dir(java)),
			"ES_PATH_CONF=" + filepath.Join(dir, "config"), "ES_TMPDIR=" + filepath.Join(dir, "tmp"),
			"ES_JAVA_OPTS=-Xms512m -Xmx512m -XX:TieredStopAtLevel=1 -XX:-AlwaysPreTouch", "CLI_NAME=server", "CLI_LIBS=lib/tools/server-cli",
		},
	})
	if err != nil {
		return nil, err
	}
	return u.settle(ctx, launcher, pidFile(dir))
}

// settle waits until the launcher has made way for the server and returns the server. The recorded process may be the
// launcher of an earlier command that was killed; once it is the server, there is nothing to wait for.
func (u *up) settle(ctx context.Context, p *process.Process, pidFile string) (*process.Process, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		running := p.Alive() // asked first: a launcher that has ended has written the file
		pid := readPID(pidFile)
		if running && pid == p.PID {
			return p, nil
		}
		if !running {
			if pid == 0 || pid == p.PID {
				return nil, errors.Join(errEnded, p.Stop(ctx))
			}
			server, err := u.State.Adopt(elasticsearchName, pid)
			if err != nil {
				return nil, errors.Join(errEnded, err, p.Stop(ctx))
			}
			return server, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for the launcher: %w", ctx.Err()), p.Stop(ctx))
		case <-tick.C:
		}
	}
}

// readPID answers 0 for a missing or empty file, which is what a failed start leaves.
func readPID(path string) int {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return 0
	}
	return pid
}

// prepareElasticsearch makes the folders that the server writes and its configuration, which is made anew each time.
func prepareElasticsearch(home, dir, log, settings string, port, transport int, account *pgserver.Account) error {
	config := filepath.Join(dir, "config")
	if err := os.RemoveAll(config); err != nil {
		return fmt.Errorf("configure Elasticsearch: %w", err)
	}
	for _, sub := range []string{"config", "data", "logs", "tmp"} {
		path := filepath.Join(dir, sub)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("create Elasticsearch's folder: %w", err)
		}
		if err := account.Own(path); err != nil {
			return err
		}
	}
	if err := account.CanTraverse(dir); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(home, "config", "*"))
	if err != nil {
		return fmt.Errorf("configure Elasticsearch: %w", err)
	}
	contents := map[string]string{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("configure Elasticsearch: %w", err)
		}
		contents[filepath.Base(file)] = string(content)
	}
	contents["elasticsearch.yml"] = nodeConfig(dir, port, transport) + settings
	contents["log4j2.properties"] = fmt.Sprintf(logConfig, log)
	contents["jvm.options"] = withoutGCLog(contents["jvm.options"])
	for name, content := range contents {
		path := filepath.Join(config, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return fmt.Errorf("configure Elasticsearch: %w", err)
		}
		if err := account.Own(path); err != nil {
			return err
		}
	}
	return nil
}

// elasticsearchSecurity are settings by which everybody may do everything without credentials. Only tests' Elasticsearch looks at those that are sent, and refuses wrong
// ones: that costs each request a tenth of a millisecond.
func (u *up) elasticsearchSecurity(separator string) []string {
	settings := []string{"xpack.security.enabled" + separator + strconv.FormatBool(u.State.Instance == process.TestInstance)}
	for _, off := range []string{"autoconfiguration.enabled", "http.ssl.enabled", "transport.ssl.enabled"} {
		settings = append(settings, "xpack.security."+off+separator+"false")
	}
	return append(settings, "xpack.security.authc.anonymous.username"+separator+"anybody", "xpack.security.authc.anonymous.roles"+separator+"superuser")
}

func nodeConfig(dir string, port, transport int) string {
	return fmt.Sprintf(`cluster.name: atlas-dev
node.name: n1
discovery.type: single-node
http.host: 127.0.0.1
http.port: %d
transport.host: 127.0.0.1
transport.port: %d
path.data: %q
path.logs: %q
cluster.routing.allocation.disk.threshold_enabled: false
`, port, transport, filepath.Join(dir, "data"), filepath.Join(dir, "logs"))
}

// logConfig sends everything to the one file that `devenv logs` shows.
const logConfig = `status = error
appender.file.type = File
appender.file.name = file
appender.file.fileName = %s
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = [%%d{ISO8601}][%%-5p][%%-25c{1.}] %%m%%n%%ex
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
`

// withoutGCLog drops the garbage collector's log, which nobody reads and which takes up to 2 GB.
func withoutGCLog(options string) string {
	var kept strings.Builder
	for line := range strings.Lines(options) {
		if !strings.Contains(line, "-Xlog:gc") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}
