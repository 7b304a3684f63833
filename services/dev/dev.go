// Package dev runs all of Atlas in one process, with no root, no Java and no cluster: an embedded PostgreSQL, an embedded broker that speaks
// Kafka's protocol, and PostgreSQL's full-text search instead of Elasticsearch. The roles are the ones that run in production.
package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/envfile"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/pgserver"
	"github.com/atlas-platform/atlas/services/migrate"
)

const (
	adminEmail = "admin@atlas.local"
	topic      = "atlas.domain-events.v1"
	partitions = 3
	// stopTimeout bounds the stop of PostgreSQL once every role has drained.
	stopTimeout = 20 * time.Second
)

// Options says where `atlas dev` keeps its data and where it answers.
type Options struct {
	// Folder keeps the data; it survives a restart.
	Folder string
	// Listen is the address of the REST API, host:port; port 0 takes any free one.
	Listen string
	// FallBack lets another port be taken when Listen's is in use.
	FallBack bool
	// EnvFile is where the addresses and the admin's login are written as shell assignments, mode 0600.
	EnvFile string
	// Out gets what a user should read; logs go to Logger.
	Out    io.Writer
	Logger *slog.Logger
}

// Run starts everything, says how to reach it, and runs until ctx is done. Then it drains the roles and stops the servers.
func Run(ctx context.Context, o Options) (err error) {
	start := time.Now()
	if err := config.CheckListenAddr("--listen", o.Listen); err != nil {
		return err
	}
	folder, err := openFolder(o.Folder)
	if err != nil {
		return err
	}
	defer folder.Close()
	listener, err := listen(ctx, o.Listen, o.FallBack)
	if err != nil {
		return err
	}
	defer listener.Close() // the API has closed it by then, unless it never ran

	var database *pgserver.Server
	var events *broker
	servers, serversCtx := errgroup.WithContext(ctx)
	servers.Go(func() (err error) {
		database, err = pgserver.Start(serversCtx, pgserver.Config{
			DataDir: folder.join("postgres"), Progress: func(doing string) { fmt.Fprintf(o.Out, "PostgreSQL: %s …\n", doing) },
		})
		return err
	})
	servers.Go(func() (err error) {
		events, err = startBroker(folder.join("broker"))
		return err
	})
	err = servers.Wait()
	defer func() { err = errors.Join(err, stopServers(ctx, database, events)) }()
	if err != nil {
		return err
	}

	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	go func() { // ends at the latest when the servers are stopped
		<-database.Done()
		fail(errors.New("PostgreSQL has ended by itself: start Atlas again, the data is kept"))
	}()
	settings, err := prepare(running, folder, database.URL(), events.addresses(), o.Logger)
	if err == nil {
		settings.listener = listener
		err = settings.runRoles(running, o, func(address string) {
			if err := announce(o, settings, address, time.Since(start)); err != nil {
				fail(err)
			}
		})
	}
	if ctx.Err() == nil { // nobody asked for the end
		err = errors.Join(context.Cause(running), err)
	}
	return err
}

// settings is what the roles are configured with.
type settings struct {
	databaseURL   string
	brokers       []string
	signingKey    string
	files         string // the folder of the object store
	adminPassword string
	listener      net.Listener
}

// prepare brings the database and the broker to what the roles expect.
func prepare(ctx context.Context, f *folder, databaseURL string, brokers []string, logger *slog.Logger) (*settings, error) {
	s := &settings{databaseURL: databaseURL, brokers: brokers}
	var err error
	if s.signingKey, err = f.signingKey(); err != nil {
		return nil, err
	}
	if s.files, err = f.files(); err != nil {
		return nil, err
	}
	password, passwordFile, err := f.adminPassword()
	if err != nil {
		return nil, err
	}
	s.adminPassword = password
	for _, name := range []string{topic, kafka.DeadLetterTopic(topic)} {
		if err := kafka.EnsureTopic(ctx, brokers, kafka.TopicSpec{Name: name, Partitions: partitions, ReplicationFactor: 1}); err != nil {
			return nil, err
		}
	}
	return s, migrate.Run(ctx, migrate.Config{
		Database: config.Database{URL: databaseURL, MaxConns: 2},
		Admin:    migrate.Admin{Email: adminEmail, PasswordFile: passwordFile},
	}, logger)
}

func stopServers(ctx context.Context, database *pgserver.Server, events *broker) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if events != nil {
		events.stop()
	}
	if database == nil {
		return nil
	}
	return database.Stop(ctx)
}

// listen takes address, or another port of the same host when that one is in use and another will do. The listener is kept from here on: a port
// that is only looked at can be somebody else's a moment later.
func listen(ctx context.Context, address string, fallBack bool) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err == nil {
		return listener, nil
	}
	if !fallBack {
		return nil, fmt.Errorf("the REST API can't listen on %s: %w; choose another address with --listen", address, err)
	}
	host, _, splitErr := net.SplitHostPort(address)
	if splitErr != nil {
		return nil, fmt.Errorf("--listen %q: %w", address, splitErr)
	}
	return listen(ctx, net.JoinHostPort(host, "0"), false)
}

// announce writes down how to reach what runs, for scripts and the demo, and says it.
func announce(o Options, s *settings, address string, took time.Duration) error {
	url := "http://" + reachable(address)
	content := envfile.Format([]envfile.Var{
		{Name: "ATLAS_URL", Value: url},
		{Name: "ATLAS_ADMIN_EMAIL", Value: adminEmail},
		{Name: "ATLAS_ADMIN_PASSWORD", Value: s.adminPassword},
		{Name: "DATABASE_URL", Value: s.databaseURL},
		{Name: "KAFKA_BROKERS", Value: strings.Join(s.brokers, ",")},
	})
	if err := os.MkdirAll(filepath.Dir(o.EnvFile), 0o700); err != nil {
		return fmt.Errorf("make the folder of the environment file: %w; name another file with --env-file", err)
	}
	if err := writeSecret(o.EnvFile, []byte(content)); err != nil {
		return fmt.Errorf("write the environment file: %w; name another file with --env-file", err)
	}
	fmt.Fprintf(o.Out, `Atlas is ready after %s.

  API        %s
  Reference  %s/docs
  Admin      %s, password in %s
  Data       %s (kept when this stops)

In another terminal: make demo, or `+"`. %s`"+` and use curl. Ctrl-C stops Atlas.
`, took.Round(10*time.Millisecond), url, url, adminEmail, o.EnvFile, o.Folder, o.EnvFile)
	return nil
}

// reachable is an address at which this machine reaches what listens on address.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}
