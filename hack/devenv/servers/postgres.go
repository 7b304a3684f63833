package servers

import (
	"context"
	"fmt"
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
		var err error
		if cfg.Port, err = u.State.KnownPort(postgresName); err != nil {
			return endpoint{}, err
		}
		server, err := pgserver.Attach(cfg)
		if err != nil {
			return endpoint{}, err
		}
		p.Outcome("already running")
		return postgresEndpoint(server), u.ready(ctx, running, func(ctx context.Context) error { return server.WaitReady(ctx, nil) })
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
	return postgresEndpoint(server), u.startedReady(ctx, started, func(ctx context.Context) error { return server.WaitReady(ctx, started.Exited()) })
}

func postgresEndpoint(server *pgserver.Prepared) endpoint {
	e := endpoint{host: server.URL, ports: []int{server.Port}, how: AsProcess}
	if node, err := url.Parse(server.URL); err == nil {
		node.Host = atNode(server.Port)
		e.node = node.String()
	}
	return e
}

// ready waits for a server that was running already.
func (u *up) ready(ctx context.Context, p *process.Process, ask probe) error {
	if err := await(ctx, readyTimeout, ask, p); err != nil {
		return u.State.WithLog(p.Name, fmt.Errorf("pid %d: %w", p.PID, err))
	}
	return nil
}

// startedReady waits for a server that was just started, and ends it again when it doesn't get ready.
func (u *up) startedReady(ctx context.Context, p *process.Process, ask probe) error {
	err := u.ready(ctx, p, ask)
	if err != nil {
		if stopErr := p.Stop(context.WithoutCancel(ctx)); stopErr != nil {
			return fmt.Errorf("%w; %w", err, stopErr)
		}
	}
	return err
}
