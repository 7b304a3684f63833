// Package migrate is the role that brings the database's schema to the newest version and ensures the platform's first admin. It runs to its
// end, and running it again changes nothing.
package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/mail"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/atlas-platform/atlas/internal/account"
	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/password"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// Config is the role's configuration.
type Config struct {
	Database config.Database
	Log      config.Log
	Admin    Admin
}

// Admin names the platform admin to ensure. Both or none are set.
type Admin struct {
	Email        string `env:"BOOTSTRAP_ADMIN_EMAIL" help:"e-mail of the platform admin to ensure"`
	PasswordFile string `env:"BOOTSTRAP_ADMIN_PASSWORD_FILE" help:"file with the admin's password"`
}

// Validate implements config.Validator.
func (c *Admin) Validate() []error {
	var errs []error
	if (c.Email == "") != (c.PasswordFile == "") {
		errs = append(errs, errors.New("BOOTSTRAP_ADMIN_EMAIL and BOOTSTRAP_ADMIN_PASSWORD_FILE go together: only one is set"))
	}
	if address, err := mail.ParseAddress(c.Email); c.Email != "" && (err != nil || address.Address != c.Email) {
		errs = append(errs, fmt.Errorf("BOOTSTRAP_ADMIN_EMAIL=%q is not an e-mail address", c.Email))
	}
	if _, err := readPassword(c.PasswordFile); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// Run migrates the schema, then ensures the admin.
func Run(ctx context.Context, cfg Config, logger *slog.Logger) error {
	// Read first: a wrong file should be named before anything is changed.
	secret, err := readPassword(cfg.Admin.PasswordFile)
	if err != nil {
		return err
	}
	if err := postgres.Migrate(ctx, cfg.Database.URL, logger); err != nil {
		return err
	}
	if cfg.Admin.Email == "" {
		return nil
	}
	pool, err := postgres.Open(ctx, cfg.Database.URL, cfg.Database.MaxConns)
	if err != nil {
		return err
	}
	defer pool.Close()
	return ensureAdmin(ctx, db.New(pool), password.NewHasher(password.Minimum, 1), cfg.Admin.Email, secret, logger)
}

func readPassword(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("BOOTSTRAP_ADMIN_PASSWORD_FILE: %w", err)
	}
	content = bytes.TrimRight(content, "\r\n")
	if !passwordOK(string(content)) {
		return "", fmt.Errorf("BOOTSTRAP_ADMIN_PASSWORD_FILE: the password in %s must have %d to %d characters", path,
			account.MinPassword, account.MaxPassword)
	}
	return string(content), nil
}

func passwordOK(secret string) bool {
	return utf8.ValidString(secret) && !strings.Contains(secret, "\x00") && account.PasswordLengthOK(secret)
}

// ensureAdmin makes the account, or makes the account that exists an admin with this password.
func ensureAdmin(ctx context.Context, q *db.Queries, hasher *password.Hasher, email, secret string, logger *slog.Logger) error {
	email = account.NormalizeEmail(email)
	user, err := q.GetUserByEmail(ctx, email)
	if errors.Is(err, pgx.ErrNoRows) {
		created, err := createAdmin(ctx, q, hasher, email, secret)
		if err != nil {
			return err
		}
		if created {
			logger.InfoContext(ctx, "created the platform admin", "email", email)
			return nil
		}
		// Somebody registered the e-mail a moment ago.
		user, err = q.GetUserByEmail(ctx, email)
		if err != nil {
			return fmt.Errorf("look for the platform admin: %w", err)
		}
	} else if err != nil {
		return fmt.Errorf("look for the platform admin: %w", err)
	}

	match, outdated, err := hasher.Verify(ctx, user.PasswordHash, secret)
	if err != nil && !errors.Is(err, password.ErrMalformed) {
		return err
	}
	if match && !outdated && user.IsAdmin && user.DisabledAt == nil {
		return nil
	}
	hash := user.PasswordHash
	if !match || outdated {
		if hash, err = hasher.Hash(ctx, secret); err != nil {
			return err
		}
	}
	if err := q.EnsureAdmin(ctx, hash, user.ID); err != nil {
		return fmt.Errorf("ensure the platform admin: %w", err)
	}
	logger.InfoContext(ctx, "made the account a platform admin with the given password", "email", email)
	return nil
}

// createAdmin returns false when the e-mail is taken.
func createAdmin(ctx context.Context, q *db.Queries, hasher *password.Hasher, email, secret string) (bool, error) {
	hash, err := hasher.Hash(ctx, secret)
	if err != nil {
		return false, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return false, fmt.Errorf("make an id: %w", err)
	}
	_, err = q.CreateUser(ctx, db.CreateUserParams{ID: id, Email: email, DisplayName: "Platform admin", PasswordHash: hash, IsAdmin: true})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("create the platform admin: %w", err)
	}
	return true, nil
}
