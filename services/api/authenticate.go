package api

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/token"
)

const (
	challengeMissing = `Bearer realm="atlas"`
	challengeInvalid = `Bearer realm="atlas", error="invalid_token"`
)

// principal is who calls. It is looked up for every request, so that a change of rights is in force at once.
type principal struct {
	// user is the zero value for a part of Atlas itself.
	user db.User
	// session is the nil UUID when the token belongs to no session.
	session uuid.UUID
	service bool
	admin   bool
}

// id is the user's id; the nil UUID, which is member of nothing, for a part of Atlas itself.
func (p principal) id() uuid.UUID { return p.user.ID }

// actor is who an event names: nobody when the platform itself acts.
func (p principal) actor() *uuid.UUID {
	if p.service {
		return nil
	}
	return &p.user.ID
}

type principalKey struct{}

// caller returns the request's principal. Only routes behind authenticate have one.
func caller(ctx context.Context) principal {
	p, _ := ctx.Value(principalKey{}).(principal)
	return p
}

// userOnly returns the caller, or an error when a part of Atlas itself calls.
func userOnly(ctx context.Context) (principal, error) {
	p := caller(ctx)
	if p.service {
		return p, forbidden("this needs a user's token, not a service token")
	}
	return p, nil
}

// authenticate lets a request go on with its principal. Operations that the specification opens to everybody need none.
func (s *server) authenticate(spec *spec) gin.HandlerFunc {
	return func(c *gin.Context) {
		if op := spec.operation(c.Request, c.FullPath()); op != nil && op.public {
			return
		}
		p, err := s.principal(c.Request.Context(), c.GetHeader("Authorization"))
		if err != nil {
			s.fail(c, err)
			return
		}
		c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), principalKey{}, p))
	}
}

func (s *server) principal(ctx context.Context, header string) (principal, error) {
	if header == "" {
		return principal{}, unauthenticated(challengeMissing, "send a token from POST /v1/auth/login as Authorization: Bearer <access_token>")
	}
	scheme, raw, found := strings.Cut(header, " ")
	if !found || !strings.EqualFold(scheme, "Bearer") {
		return principal{}, unauthenticated(challengeMissing, "the Authorization header is not Bearer <access_token>")
	}
	claims, err := s.verifier.Verify(strings.TrimSpace(raw))
	switch {
	case errors.Is(err, token.ErrExpired):
		return principal{}, unauthenticated(challengeInvalid, "the access token has expired: log in again")
	case err != nil:
		return principal{}, unauthenticated(challengeInvalid, "the access token is not valid")
	case claims.Service:
		return principal{service: true, admin: claims.Admin}, nil
	}
	user, err := s.bearer(ctx, claims)
	if missing(err) || (err == nil && user.DisabledAt != nil) {
		return principal{}, unauthenticated(challengeInvalid, "the access token's session has ended, or its account is gone or disabled")
	}
	if err != nil {
		return principal{}, fmt.Errorf("look up the caller: %w", err)
	}
	return principal{user: user, session: claims.SessionID, admin: user.IsAdmin}, nil
}

// bearer finds the user and, in the same round trip, whether the token's session goes on.
func (s *server) bearer(ctx context.Context, claims token.Claims) (db.User, error) {
	if claims.SessionID == uuid.Nil {
		return s.queries.GetUser(ctx, claims.UserID)
	}
	return s.queries.GetUserOfSession(ctx, claims.UserID, claims.SessionID)
}
