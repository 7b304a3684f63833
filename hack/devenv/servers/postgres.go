package servers

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/atlas-platform/atlas/hack/devenv/process"
	"github.com/atlas-platform/atlas/internal/pgserver"
)

func (u *up) postgres(ctx context.Context, p *process.Progress) (endpoint, error) {
	if address := u.given("DATABASE_URL", postgresName, u.last.DatabaseURL); address != "" {
		return external(ctx, p, "DATABASE_URL", address, probePostgres(address))
	}
	cfg := pgserver.Config{
		DataDir: u.State.Path(postgresName), CacheDir: process.Cache(), FastUnsafe: u.State.Instance == process.TestInstance,
		Progress: func(doing string) { p.Set("%s", doing) },
	}
	if running, ok := u.State.Find(postgresName); ok {
		e, err := u.attachPostgres(ctx, p, cfg, running)
		if !errors.Is(err, errEnded) {
			return e, err
		}
	}
	if u.docker {
		return u.postgresContainer(ctx, p)
	}
	var err error
	if cfg.Port, err = u.State.Port(postgresName); err != nil {
		return endpoint{}, err
	}
	server, err := pgserver.Prepare(ctx, cfg)
	if err != nil {
		return endpoint{}, err
	}
	p.Set("starting")
	started, err := u.State.Start(process.Spec{
		Name: postgresName, Path: server.Path, Args: server.Args, Env: server.Env, Dir: server.Dir, Credential: server.Credential,
		StopSignal: pgserver.StopSignal, StopGrace: 15 * time.Second, Address: onHost(server.Port),
	})
	if err != nil {
		return endpoint{}, err
	}
	return postgresEndpoint(server), u.started(ctx, started, server.Ready)
}

func (u *up) attachPostgres(ctx context.Context, p *process.Progress, cfg pgserver.Config, running *process.Process) (endpoint, error) {
	port, err := u.State.KnownPort(postgresName)
	if err != nil {
		return endpoint{}, err
	}
	cfg.Port = port
	server, err := pgserver.Attach(cfg)
	if err != nil {
		return endpoint{}, err
	}
	return postgresEndpoint(server), u.attached(ctx, p, running, server.Ready)
}

func postgresEndpoint(server *pgserver.Prepared) endpoint {
	e := endpoint{host: server.URL, ports: []int{server.Port}, how: AsProcess}
	if node, err := url.Parse(server.URL); err == nil {
		node.Host = atNode(server.Port)
		e.node = node.String()
	}
	return e
}
