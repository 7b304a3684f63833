package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/jackc/pgx/v5"

	"github.com/atlas-platform/atlas/internal/account"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// Register implements gen.StrictServerInterface.
func (s *server) Register(ctx context.Context, request gen.RegisterRequestObject) (gen.RegisterResponseObject, error) {
	if s.closed {
		return nil, forbidden("registration is closed: ask a platform admin for an account")
	}
	user, err := s.createAccount(ctx, request.Body)
	if err != nil {
		return nil, err
	}
	return gen.Register201JSONResponse(userBody(user)), nil
}

func (s *server) createAccount(ctx context.Context, input *gen.RegisterRequest) (user db.User, err error) {
	email := account.NormalizeEmail(input.Email)
	if !account.EmailOK(email) { // what the specification lets through may become something else
		return user, unprocessable(pointed("/email", "must be an e-mail address"))
	}
	hash, err := s.hasher.Hash(ctx, input.Password)
	if err != nil {
		return user, err
	}
	id, err := newID()
	if err != nil {
		return user, err
	}
	name := ""
	if input.DisplayName != nil {
		name = *input.DisplayName
	}
	user, err = s.queries.CreateUser(ctx, db.CreateUserParams{ID: id, Email: email, DisplayName: name, PasswordHash: hash})
	if missing(err) {
		return user, conflict("email-taken", "an account with this e-mail exists already")
	}
	if err != nil {
		return user, fmt.Errorf("create the user: %w", err)
	}
	return user, nil
}

// Login implements gen.StrictServerInterface. An unknown e-mail and a wrong password get the same answer in the same time.
func (s *server) Login(ctx context.Context, request gen.LoginRequestObject) (gen.LoginResponseObject, error) {
	email := account.NormalizeEmail(request.Body.Email)
	t, err := s.takeAttempt(ctx, email)
	if err != nil {
		return nil, err
	}
	user, err := s.checkPassword(ctx, email, request.Body.Password)
	if p, ok := errors.AsType[*problem](err); ok && p.status == http.StatusUnauthorized {
		return nil, p.with(t.header())
	}
	s.returnAttempt(ctx, t) // neither a login nor a failure of our own is a wrong password
	if err != nil {
		return nil, err
	}
	pair, err := s.startSession(ctx, user)
	if missing(err) { // the password was changed, rehashed or the account disabled meanwhile
		return nil, unavailable("the account has just been changed: try again")
	}
	if err != nil {
		return nil, err
	}
	return gen.Login200JSONResponse(pair), nil
}

// checkPassword finds the account that has this e-mail and this password.
func (s *server) checkPassword(ctx context.Context, email, secret string) (db.User, error) {
	refused := unauthenticated(challengeMissing, "e-mail or password is wrong")
	user, err := s.queries.GetUserByEmail(ctx, email)
	if missing(err) {
		if err := s.hasher.VerifyAbsent(ctx, secret); err != nil {
			return db.User{}, err
		}
		return db.User{}, refused
	}
	if err != nil {
		return db.User{}, fmt.Errorf("look up the account: %w", err)
	}
	match, outdated, err := s.hasher.Verify(ctx, user.PasswordHash, secret)
	if err != nil {
		return db.User{}, fmt.Errorf("verify the password: %w", err)
	}
	if !match {
		return db.User{}, refused
	}
	if user.DisabledAt != nil {
		return db.User{}, forbidden("this account is disabled")
	}
	if outdated {
		user.PasswordHash = s.rehash(ctx, user, secret)
	}
	return user, nil
}

// rehash replaces a hash that was made with older parameters and returns the one that is stored now. When it fails the login still counts:
// the next one tries again.
func (s *server) rehash(ctx context.Context, user db.User, secret string) string {
	hash, err := s.hasher.Hash(ctx, secret)
	if err == nil {
		err = s.queries.ReplacePasswordHash(ctx, hash, user.ID, user.PasswordHash)
	}
	if err != nil {
		s.logger.WarnContext(ctx, "an outdated password hash stays", slog.Any("error", err))
		return user.PasswordHash
	}
	return hash
}

// GetMe implements gen.StrictServerInterface.
func (s *server) GetMe(ctx context.Context, _ gen.GetMeRequestObject) (gen.GetMeResponseObject, error) {
	p, err := userOnly(ctx)
	if err != nil {
		return nil, err
	}
	return gen.GetMe200JSONResponse(userBody(p.user)), nil
}

// ChangePassword implements gen.StrictServerInterface.
func (s *server) ChangePassword(ctx context.Context, request gen.ChangePasswordRequestObject) (gen.ChangePasswordResponseObject, error) {
	p, err := loginOnly(ctx)
	if err != nil {
		return nil, err
	}
	t, err := s.takeAttempt(ctx, p.user.Email)
	if err != nil {
		return nil, err
	}
	match, _, err := s.hasher.Verify(ctx, p.user.PasswordHash, request.Body.CurrentPassword)
	if match || err != nil {
		s.returnAttempt(ctx, t)
	}
	if err != nil {
		return nil, fmt.Errorf("verify the password: %w", err)
	}
	if !match {
		return nil, unprocessable(pointed("/current_password", "is not the current password"))
	}
	hash, err := s.hasher.Hash(ctx, request.Body.NewPassword)
	if err != nil {
		return nil, err
	}
	err = postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		q := s.queries.WithTx(tx)
		changed, err := q.ChangePassword(ctx, hash, p.id(), p.user.PasswordHash)
		if err != nil {
			return fmt.Errorf("change the password: %w", err)
		}
		if changed == 0 {
			return conflict("password-changed", "the password was changed or the account disabled meanwhile")
		}
		if err := q.RevokeOtherSessions(ctx, p.id(), p.session); err != nil {
			return fmt.Errorf("end the other sessions: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return gen.ChangePassword204Response{}, nil
}

func userBody(user db.User) gen.User {
	return gen.User{ID: user.ID, Email: user.Email, DisplayName: user.DisplayName, IsAdmin: user.IsAdmin, CreatedAt: user.CreatedAt.UTC()}
}
