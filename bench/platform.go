package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	"github.com/elastic/go-elasticsearch/v8"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/client"
	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/token"
)

// platformBundle is a running API over a database of its own, and a second database with the same content for the bare loops, whose events no relay
// publishes.
type platformBundle struct {
	server      string // its URL
	admin       *pgx.Conn
	names       []string // of databases
	own, bare   *pgxpool.Pool
	ownURL      string
	bareURL     string
	folder      string
	topic       string
	alias       string
	es          *elasticsearch.Client
	brokers     []string
	process     *exec.Cmd
	address     string
	ops         string // the address of its metrics
	accessToken string
	user        uuid.UUID
	session     uuid.UUID
	collection  uuid.UUID
	items       []uuid.UUID // some of them
	few         []result    // how long the pages of few items took
	seeded      int         // how many items seed has made
	exportPeak  int64       // of the small export, in bytes
	rival       *exec.Cmd
}

func start(ctx context.Context, o options) (_ *platformBundle, err error) {
	p := &platformBundle{}
	defer func() { //nolint:contextcheck // also after ctx is done
		if err != nil {
			p.stop()
		}
	}()
	server := os.Getenv("DATABASE_URL")
	if server == "" || os.Getenv("KAFKA_BROKERS") == "" || os.Getenv("ELASTICSEARCH_URL") == "" {
		return nil, errors.New("DATABASE_URL, KAFKA_BROKERS and ELASTICSEARCH_URL must name real servers: `make bench` starts them")
	}
	p.server = server
	p.brokers = strings.Split(os.Getenv("KAFKA_BROKERS"), ",")
	if p.folder, err = os.MkdirTemp("", "atlas-bench-"); err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	if p.admin, err = pgx.Connect(ctx, server); err != nil {
		return nil, fmt.Errorf("reach PostgreSQL: %w", err)
	}
	id := strings.ReplaceAll(uuid.NewString(), "-", "")[:12]
	if p.ownURL, err = p.database(ctx, server, "bench_"+id); err != nil {
		return nil, err
	}
	if p.bareURL, err = p.database(ctx, server, "bench_"+id+"_bare"); err != nil {
		return nil, err
	}
	if p.own, err = barePool(ctx, p.ownURL, o.connections); err != nil {
		return nil, err
	}
	if p.bare, err = barePool(ctx, p.bareURL, o.connections); err != nil {
		return nil, err
	}
	p.topic, p.alias = "atlas.bench."+id, "bench-"+id
	if err := p.createTopic(); err != nil {
		return nil, err
	}
	if err := p.startAPI(ctx, o, p.ownURL); err != nil {
		return nil, err
	}
	if err := p.signUp(ctx); err != nil {
		return nil, err
	}
	if err := p.seedBoth(ctx, o.items); err != nil {
		return nil, err
	}
	return p, p.index(ctx)
}

func (p *platformBundle) database(ctx context.Context, server, name string) (string, error) {
	if _, err := p.admin.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		return "", fmt.Errorf("make a database: %w", err)
	}
	p.names = append(p.names, name)
	u, err := url.Parse(server)
	if err != nil {
		return "", fmt.Errorf("DATABASE_URL: %w", err)
	}
	u.Path = "/" + name
	return u.String(), postgres.Migrate(ctx, u.String(), slog.New(slog.DiscardHandler))
}

// barePool is pgx as it comes, with nothing of Atlas.
func barePool(ctx context.Context, url string, connections int) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	cfg.MaxConns = int32(connections) //nolint:gosec // a flag, small
	return pgxpool.NewWithConfig(ctx, cfg)
}

func (p *platformBundle) createTopic() error {
	admin, err := sarama.NewClusterAdmin(p.brokers, kafka.NewConfig("atlas-bench"))
	if err != nil {
		return fmt.Errorf("reach Kafka: %w", err)
	}
	defer admin.Close() //nolint:errcheck // nothing is pending
	if err := admin.CreateTopic(p.topic, &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1}, false); err != nil {
		return fmt.Errorf("create the topic: %w", err)
	}
	return nil
}

// restartAPI starts the API anew, so that its memory tells of nothing that was before.
func (p *platformBundle) restartAPI(ctx context.Context, o options) error {
	_ = p.process.Process.Signal(syscall.SIGTERM)
	_ = p.process.Wait() // it was told to end
	return p.startAPI(ctx, o, p.ownURL)
}

// index makes the seeded items known to search.
func (p *platformBundle) index(ctx context.Context) error {
	var err error
	if p.es, err = elastic.NewClient(elastic.Config{URLs: strings.Split(os.Getenv("ELASTICSEARCH_URL"), ",")}); err != nil {
		return err
	}
	if err := elastic.EnsureIndex(ctx, p.es, p.alias, elastic.Params{}); err != nil {
		return err
	}
	targets := make([]indexing.Target, len(p.items))
	for i, id := range p.items {
		targets[i].ItemID = id
	}
	_, err = indexing.New(p.own, p.es, p.alias).Sync(ctx, targets)
	return err
}

func (p *platformBundle) startAPI(ctx context.Context, o options, databaseURL string) error {
	keyFile := filepath.Join(p.folder, "key.pem")
	if _, err := os.Stat(keyFile); err != nil {
		key, err := token.GenerateSigningKey()
		if err != nil {
			return err
		}
		if err := os.WriteFile(keyFile, key, 0o600); err != nil {
			return fmt.Errorf("write the signing key: %w", err)
		}
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	ops, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	p.address, p.ops = address, ops
	p.process = exec.CommandContext(context.WithoutCancel(ctx), o.atlas, "api") //nolint:gosec // the program to measure
	p.process.Env = append(os.Environ(), "DATABASE_URL="+databaseURL, "KAFKA_TOPIC="+p.topic, "LISTEN_ADDR="+address, "OPS_ADDR="+ops, "ELASTICSEARCH_INDEX="+p.alias,
		"JWT_SIGNING_KEY_FILE="+keyFile, "RATE_LIMIT=0", "LOG_LEVEL=warn", "ACCESS_TOKEN_TTL=6h", "DATABASE_MAX_CONNS="+strconv.Itoa(o.connections))
	p.process.Stdout, p.process.Stderr = os.Stderr, os.Stderr
	if err := p.process.Start(); err != nil {
		return fmt.Errorf("start the API: %w", err)
	}
	return waitFor(ctx, "http://"+address+"/readyz")
}

func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func waitFor(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return fmt.Errorf("make a request: %w", err)
		}
		if answer, err := http.DefaultClient.Do(request); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				tick.Stop()
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after 30 s", address)
		case <-tick.C:
		}
	}
}

// signUp makes the user and the collection that everything is measured with, as any user would.
func (p *platformBundle) signUp(ctx context.Context) error {
	const email, password = "bench@example.com", "correct horse battery"
	base := "http://" + p.address
	anonymous, err := client.New(base, nil)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	registered, err := anonymous.RegisterWithResponse(ctx, client.RegisterRequest{Email: email, Password: password})
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	if err := client.Check(registered.HTTPResponse, registered.Body); err != nil {
		return fmt.Errorf("register: %w", err)
	}
	p.user = registered.JSON201.ID
	login, err := anonymous.LoginWithResponse(ctx, client.LoginRequest{Email: email, Password: password})
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	if err := client.Check(login.HTTPResponse, login.Body); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	p.accessToken = login.JSON200.AccessToken
	if err := p.own.QueryRow(ctx, "SELECT id FROM sessions").Scan(&p.session); err != nil {
		return fmt.Errorf("find the session: %w", err)
	}
	api, err := client.New(base, client.StaticToken(p.accessToken))
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	created, err := api.CreateCollectionWithResponse(ctx, nil, client.CollectionCreate{Name: "bench"})
	if err != nil {
		return fmt.Errorf("create a collection: %w", err)
	}
	if err := client.Check(created.HTTPResponse, created.Body); err != nil {
		return fmt.Errorf("create a collection: %w", err)
	}
	p.collection = created.JSON201.ID
	return nil
}

// seedBoth gives both databases the same user, collection, tags and items.
func (p *platformBundle) seedBoth(ctx context.Context, items int) error {
	if _, err := p.bare.Exec(ctx, `WITH u AS (INSERT INTO users (id, email, password_hash) VALUES ($1, 'bench@example.com', 'none')),
		c AS (INSERT INTO collections (id, name, created_by) VALUES ($2, 'bench', $1))
		INSERT INTO memberships (id, collection_id, user_id, role) VALUES (gen_random_uuid(), $2, $1, 'owner')`, p.user, p.collection); err != nil {
		return fmt.Errorf("seed the bare database: %w", err)
	}
	for _, pool := range []*pgxpool.Pool{p.own, p.bare} {
		if _, err := pool.Exec(ctx, `INSERT INTO tags (id, collection_id, name)
			SELECT md5('tag' || n)::uuid, $1, 'tag-' || n FROM generate_series(0, 99) AS n`, p.collection); err != nil {
			return fmt.Errorf("seed the tags: %w", err)
		}
		if err := p.seed(ctx, pool, 0, items, itemBytes); err != nil {
			return err
		}
	}
	p.seeded = items
	rows, err := p.own.Query(ctx, "SELECT id FROM items ORDER BY id LIMIT 10000")
	if err != nil {
		return fmt.Errorf("read the items: %w", err)
	}
	p.items, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("read the items: %w", err)
	}
	return nil
}

// seed adds items from..to of the given size with three tags each. Their ids are UUIDv7-like: ordered by creation, one a second. They are the same in every
// database, and search has them, as far as the table of that knows.
func (p *platformBundle) seed(ctx context.Context, pool *pgxpool.Pool, from, to, bytes int) error {
	const step = 50_000
	for ; from < to; from += step {
		if _, err := pool.Exec(ctx, `WITH n AS (
				SELECT n, (lpad(to_hex(1700000000000 + n * 1000::bigint), 12, '0') || '7' || substr(md5('item' || n), 1, 3) || '8' || substr(md5('item' || n), 4, 15))::uuid AS id
				FROM generate_series($3::int, $4::int - 1) AS n
			), i AS (
				INSERT INTO items (id, collection_id, title, content, created_by, updated_by, created_at, updated_at)
				SELECT id, $1, 'Item number ' || n, left(repeat('lorem ipsum dolor sit amet ' || n || ' ', 1 + $5::int / 20), $5::int), $2, $2,
					to_timestamp(1700000000 + n), to_timestamp(1700000000 + n) FROM n
			), s AS (
				INSERT INTO item_index_state (item_id, indexed_version) SELECT id, 1 FROM n
			)
			INSERT INTO item_tags (item_id, tag_id) SELECT n.id, md5('tag' || ((n.n * 7 + k * 31) % 100))::uuid FROM n, generate_series(0, 2) AS k`,
			p.collection, p.user, from, min(from+step, to), bytes); err != nil {
			return fmt.Errorf("seed the items: %w", err)
		}
	}
	if _, err := pool.Exec(ctx, "VACUUM (ANALYZE) items, item_tags, tags, item_index_state"); err != nil {
		return fmt.Errorf("analyse: %w", err)
	}
	return nil
}

// residentBytes is the memory of a process that is in RAM now.
func residentBytes(pid int) (int64, error) {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(status)) {
		if value, found := strings.CutPrefix(line, "VmRSS:"); found {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, io.ErrUnexpectedEOF
}

// stop ends and removes whatever was started.
func (p *platformBundle) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, process := range []*exec.Cmd{p.rival, p.process} {
		if process != nil && process.Process != nil {
			_ = process.Process.Signal(syscall.SIGTERM)
			_ = process.Wait()
		}
	}
	for _, pool := range []*pgxpool.Pool{p.own, p.bare} {
		if pool != nil {
			pool.Close()
		}
	}
	if p.es != nil {
		if state, err := elastic.ObserveIndex(ctx, p.es, p.alias); err == nil {
			for name := range state.Indices {
				_, _ = p.es.Indices.Delete([]string{name}, p.es.Indices.Delete.WithContext(ctx))
			}
			_, _ = p.es.Indices.DeleteIndexTemplate(elastic.TemplateName(p.alias), p.es.Indices.DeleteIndexTemplate.WithContext(ctx))
		}
	}
	if p.topic != "" {
		if admin, err := sarama.NewClusterAdmin(p.brokers, kafka.NewConfig("atlas-bench")); err == nil {
			_ = admin.DeleteTopic(p.topic)
			_ = admin.Close()
		}
	}
	if p.admin != nil {
		for _, name := range p.names {
			_, _ = p.admin.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
		}
		_ = p.admin.Close(ctx)
	}
	_ = os.RemoveAll(p.folder)
}
