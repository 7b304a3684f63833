// Package postgres opens the database, migrates its schema and writes events to the transactional outbox. Queries live in queries/*.sql;
// sqlc turns them into the package db.
package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/atlas-platform/atlas/internal/pause"
	"github.com/atlas-platform/atlas/internal/pguri"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations returns the schema's migration files, in goose's format.
func Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the folder is embedded above
	}
	return sub
}

// Open makes a connection pool. It does not connect yet, so that a role can start while the database is away.
func Open(ctx context.Context, url string, maxConns int32) (*pgxpool.Pool, error) {
	return open(ctx, url, 0, maxConns)
}

// OpenFull is Open with a pool that is kept full, for requests: none waits until a connection is made, and none fails because no new one can be made for a while, as
// after its role's password was changed.
func OpenFull(ctx context.Context, url string, conns int32) (*pgxpool.Pool, error) {
	return open(ctx, url, conns, conns)
}

func open(ctx context.Context, url string, minConns, maxConns int32) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parse DATABASE_URL: %w", unusable(url))
	}
	cfg.MinConns, cfg.MaxConns = minConns, maxConns
	cfg.MaxConnLifetime = time.Hour
	cfg.MaxConnLifetimeJitter = 10 * time.Minute
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	if _, set := cfg.ConnConfig.RuntimeParams["application_name"]; !set {
		cfg.ConnConfig.RuntimeParams["application_name"] = "atlas"
	}
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		registerUUID(conn.TypeMap())
		return db.New(conn).DetectDeadClient(ctx)
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", unusable(url))
	}
	return pool, nil
}

// unusable says what is wrong with a URL that can't be connected with. The error of those who connect may repeat it.
func unusable(url string) error {
	if err := pguri.Check(url); err != nil {
		return fmt.Errorf("it %w", err)
	}
	return errUnusable
}

var errUnusable = errors.New("it has a parameter that can't be used: check those after the ?, and that the files that they name are there")

// SchemaAheadError says that a newer release has migrated the database. What it made of the data, this release doesn't know.
type SchemaAheadError struct {
	Version int64 // of the database
	Known   int64 // the newest that this release has
}

func (e *SchemaAheadError) Error() string {
	return fmt.Sprintf("the database has schema version %d, and this release knows %d at most: run a release that knows it, or restore a backup from before the upgrade",
		e.Version, e.Known)
}

// Migrate brings the schema to the newest version. It holds a session lock, so that concurrent runs wait for each other. A database that a newer
// release has migrated is left alone, with a *SchemaAheadError.
func Migrate(ctx context.Context, url string, logger *slog.Logger) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("parse DATABASE_URL: %w", unusable(url))
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	conn := stdlib.OpenDB(*cfg)
	defer conn.Close() //nolint:errcheck // nothing is pending
	if err := conn.PingContext(ctx); err != nil {
		return fmt.Errorf("reach the database: %w", err)
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return fmt.Errorf("make the migration lock: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, conn, Migrations(), goose.WithSessionLocker(locker), goose.WithSlog(logger))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	applied, err := up(ctx, provider, logger)
	if err != nil {
		return fmt.Errorf("migrate the database: %w", err)
	}
	version, known, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read the schema version: %w", err)
	}
	if version > known {
		return &SchemaAheadError{Version: version, Known: known}
	}
	logger.InfoContext(ctx, "the schema is up to date", "version", version, "applied", applied)
	return nil
}

// A migration that would keep others waiting gives up soon and is tried again, for as long as a backup may take that is in its way.
const (
	migrationPause    = 2 * time.Second
	migrationPatience = 15 * time.Minute
)

// up applies what is missing and returns how many migrations that was.
func up(ctx context.Context, provider *goose.Provider, logger *slog.Logger) (applied int, err error) {
	for end := time.Now().Add(migrationPatience); ; {
		results, err := provider.Up(ctx)
		var partial *goose.PartialError
		if errors.As(err, &partial) {
			results = partial.Applied
		}
		for _, r := range results {
			logger.InfoContext(ctx, "migration applied", "migration", r.Source.Path, "duration", r.Duration)
		}
		applied += len(results)
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != "55P03" || time.Now().After(end) { // lock_not_available
			return applied, err //nolint:wrapcheck // the caller says what was done
		}
		logger.WarnContext(ctx, "a migration waits for long transactions of others to end", "error", err)
		if pause.For(ctx, migrationPause) != nil {
			return applied, err //nolint:wrapcheck // as above
		}
	}
}

// Beginner starts a transaction: a pool or a connection.
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// InTx runs work in a transaction: committed when work returns nil, rolled back when it returns an error or panics.
func InTx(ctx context.Context, conn Beginner, work func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, conn, work)
}
