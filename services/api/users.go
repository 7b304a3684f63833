package api

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"

	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// adminOnly returns the caller, or an error when they are no platform admin.
func adminOnly(ctx context.Context) (principal, error) {
	p := caller(ctx)
	if !p.admin {
		return p, forbidden("this needs a platform admin")
	}
	return p, nil
}

// ListUsers implements gen.StrictServerInterface.
func (s *server) ListUsers(ctx context.Context, request gen.ListUsersRequestObject) (gen.ListUsersResponseObject, error) {
	if _, err := adminOnly(ctx); err != nil {
		return nil, err
	}
	from, err := s.resume(request.Params.Cursor, position{ID: lastID}, "users")
	if err != nil {
		return nil, err
	}
	size := pageSize(request.Params.Limit)
	rows, err := s.queries.ListUsers(ctx, from.ID, size+1)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	rows, more := cut(rows, size)
	out := gen.ListUsers200JSONResponse{Items: make([]gen.Account, len(rows))}
	for i, row := range rows {
		out.Items[i] = accountBody(row)
	}
	if more {
		out.NextCursor, err = s.next(ctx, position{ID: rows[len(rows)-1].ID}, "users")
	}
	return out, err
}

// CreateUser implements gen.StrictServerInterface. It takes no Idempotency-Key: the e-mail is unique, and no hash of a request with a password is kept.
func (s *server) CreateUser(ctx context.Context, request gen.CreateUserRequestObject) (gen.CreateUserResponseObject, error) {
	p, err := adminOnly(ctx)
	if err != nil {
		return nil, err
	}
	user, err := s.createAccount(ctx, request.Body)
	if err != nil {
		return nil, err
	}
	s.logger.InfoContext(ctx, "account created by a platform admin", slog.String("user_id", user.ID.String()), slog.String("admin_id", p.id().String()))
	return gen.CreateUser201JSONResponse(accountBody(user)), nil
}

// UpdateUser implements gen.StrictServerInterface.
func (s *server) UpdateUser(ctx context.Context, request gen.UpdateUserRequestObject) (gen.UpdateUserResponseObject, error) {
	p, err := adminOnly(ctx)
	if err != nil {
		return nil, err
	}
	patch := request.JSONBody
	if patch == nil {
		patch = request.ApplicationMergePatchPlusJSONBody
	}
	if patch.Disabled && request.ID == p.id() {
		return nil, conflict("self", "you can't disable your own account")
	}
	var user db.User
	err = postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (err error) {
		q := s.queries.WithTx(tx)
		if user, err = q.SetUserDisabled(ctx, patch.Disabled, request.ID); err != nil {
			return fmt.Errorf("change an account: %w", err)
		}
		if !patch.Disabled {
			return nil
		}
		if err := q.RevokeSessions(ctx, request.ID); err != nil { // else enabling the account would bring them back
			return fmt.Errorf("end the account's sessions: %w", err)
		}
		return nil
	})
	if missing(err) {
		return nil, notFound("there is no such account")
	}
	if err != nil {
		return nil, err
	}
	s.logger.InfoContext(ctx, "an account was disabled or enabled", slog.String("user", user.ID.String()),
		slog.Bool("disabled", patch.Disabled), slog.String("by", p.id().String()))
	return gen.UpdateUser200JSONResponse(accountBody(user)), nil
}

func accountBody(user db.User) gen.Account {
	return gen.Account{
		ID: user.ID, Email: user.Email, DisplayName: user.DisplayName, IsAdmin: user.IsAdmin, Disabled: user.DisabledAt != nil,
		CreatedAt: user.CreatedAt.UTC(),
	}
}
