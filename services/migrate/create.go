package migrate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/atlas-platform/atlas/internal/account"
	"github.com/atlas-platform/atlas/internal/password"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// CreateAdmin makes an account that is a platform admin. It is an error when the e-mail has one already.
func CreateAdmin(ctx context.Context, cfg GrantConfig, email, secret string, logger *slog.Logger) error {
	email = account.NormalizeEmail(email)
	switch {
	case !account.EmailOK(email):
		return fmt.Errorf("%q is not an e-mail address", email)
	case !passwordOK(secret):
		return fmt.Errorf("the password must have %d to %d characters", account.MinPassword, account.MaxPassword)
	}
	pool, err := postgres.Open(ctx, cfg.Database.URL, cfg.Database.MaxConns)
	if err != nil {
		return err
	}
	defer pool.Close()
	created, err := createAdmin(ctx, db.New(pool), password.NewHasher(password.Minimum, 1), email, secret)
	if err != nil {
		return err
	}
	if !created {
		return errors.New("there is an account with the e-mail " + email + " already: `atlas admin grant` makes it an admin, and leaves its password")
	}
	logger.InfoContext(ctx, "created the platform admin", "email", email)
	return nil
}
