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
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parse DATABASE_URL: %w", redact(err))
	}
	cfg.MaxConns = maxConns
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
		return nil, fmt.Errorf("open the database: %w", redact(err))
	}
	return pool, nil
}

// redact drops the connection string that pgx's parse error may carry.
func redact(err error) error {
	return fmt.Errorf("%T: the connection string is not usable", err)
}

// Migrate brings the schema to the newest version. It holds a session lock, so that concurrent runs wait for each other.
func Migrate(ctx context.Context, url string, logger *slog.Logger) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("parse DATABASE_URL: %w", redact(err))
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
	version, err := provider.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("read the schema version: %w", err)
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
		select {
		case <-ctx.Done():
			return applied, err //nolint:wrapcheck // as above
		case <-time.After(migrationPause):
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
