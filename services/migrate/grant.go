package migrate

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/atlas-platform/atlas/internal/account"
	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// GrantConfig is what GrantAdmin reads from the environment.
type GrantConfig struct {
	Database config.Database
	Log      config.Log
}

// GrantAdmin makes the account with this e-mail a platform admin. It is an error when there is none or it is disabled.
func GrantAdmin(ctx context.Context, cfg GrantConfig, email string, logger *slog.Logger) error {
	email = account.NormalizeEmail(email)
	pool, err := postgres.Open(ctx, cfg.Database.URL, cfg.Database.MaxConns)
	if err != nil {
		return err
	}
	defer pool.Close()
	granted, err := db.New(pool).GrantAdmin(ctx, email)
	if err != nil {
		return fmt.Errorf("make %s a platform admin: %w", email, err)
	}
	if granted == 0 {
		return fmt.Errorf("there is no account with the e-mail %s, or it is disabled", email)
	}
	logger.InfoContext(ctx, "made the account a platform admin", "email", email)
	return nil
}
