package api

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/atlas-platform/atlas/internal/account"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// Register implements gen.StrictServerInterface.
func (s *server) Register(ctx context.Context, request gen.RegisterRequestObject) (gen.RegisterResponseObject, error) {
	email := account.NormalizeEmail(request.Body.Email)
	if !account.EmailOK(email) { // what the specification lets through may become something else
		return nil, unprocessable(pointed("/email", "must be an e-mail address"))
	}
	hash, err := s.hasher.Hash(ctx, request.Body.Password)
	if err != nil {
		return nil, err
	}
	id, err := newID()
	if err != nil {
		return nil, err
	}
	name := ""
	if request.Body.DisplayName != nil {
		name = *request.Body.DisplayName
	}
	user, err := s.queries.CreateUser(ctx, db.CreateUserParams{
		ID: id, Email: email, DisplayName: name, PasswordHash: hash,
	})
	if missing(err) {
		return nil, conflict("email-taken", "an account with this e-mail exists already")
	}
	if err != nil {
		return nil, fmt.Errorf("create the user: %w", err)
	}
	return gen.Register201JSONResponse(userBody(user)), nil
}

// Login implements gen.StrictServerInterface. An unknown e-mail and a wrong password get the same answer in the same time.
func (s *server) Login(ctx context.Context, request gen.LoginRequestObject) (gen.LoginResponseObject, error) {
	refused := unauthenticated(challengeMissing, "e-mail or password is wrong")
	user, err := s.queries.GetUserByEmail(ctx, account.NormalizeEmail(request.Body.Email))
	if missing(err) {
		if err := s.hasher.VerifyAbsent(ctx, request.Body.Password); err != nil {
			return nil, err
		}
		return nil, refused
	}
	if err != nil {
		return nil, fmt.Errorf("look up the account: %w", err)
	}
	match, outdated, err := s.hasher.Verify(ctx, user.PasswordHash, request.Body.Password)
	if err != nil {
		return nil, fmt.Errorf("verify the password: %w", err)
	}
	if !match {
		return nil, refused
	}
	if user.DisabledAt != nil {
		return nil, forbidden("this account is disabled")
	}
	if outdated {
		s.rehash(ctx, user, request.Body.Password)
	}
	access, err := s.issuer.Mint(user.ID)
	if err != nil {
		return nil, err
	}
	return gen.Login200JSONResponse{AccessToken: access, TokenType: "Bearer", ExpiresIn: int(s.issuer.TTL().Seconds())}, nil
}

// rehash replaces a hash that was made with older parameters. When it fails the login still counts: the next one tries again.
func (s *server) rehash(ctx context.Context, user db.User, secret string) {
	hash, err := s.hasher.Hash(ctx, secret)
	if err == nil {
		err = s.queries.ReplacePasswordHash(ctx, hash, user.ID, user.PasswordHash)
	}
	if err != nil {
		s.logger.WarnContext(ctx, "an outdated password hash stays", slog.Any("error", err))
	}
}

// GetMe implements gen.StrictServerInterface.
func (s *server) GetMe(ctx context.Context, _ gen.GetMeRequestObject) (gen.GetMeResponseObject, error) {
	p, err := userOnly(ctx)
	if err != nil {
		return nil, err
	}
	return gen.GetMe200JSONResponse(userBody(p.user)), nil
}

func userBody(user db.User) gen.User {
	return gen.User{ID: user.ID, Email: user.Email, DisplayName: user.DisplayName, IsAdmin: user.IsAdmin, CreatedAt: user.CreatedAt.UTC()}
}
