package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/token"
	"github.com/atlas-platform/atlas/services/api/gen"
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
	// personal says that the request carries an API token. It may do what its scopes say.
	personal bool
	scopes   []string
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

// loginOnly returns the caller, or an error when they have not logged in: an API token can't make more of itself, nor take over the account.
func loginOnly(ctx context.Context) (principal, error) {
	p, err := userOnly(ctx)
	if err == nil && p.personal {
		return p, forbidden("this needs a login, not an API token")
	}
	return p, err
}

// inScope returns an error when an API token is not made for such a request.
func (p principal) inScope(method string) error {
	need := gen.ScopeWrite
	if method == http.MethodGet || method == http.MethodHead {
		need = gen.ScopeRead
	}
	if !p.personal || slices.Contains(p.scopes, string(need)) {
		return nil
	}
	return forbidden(fmt.Sprintf("this needs an API token with the scope %s", need)).with(map[string]string{
		"WWW-Authenticate": fmt.Sprintf(`Bearer realm="atlas", error="insufficient_scope", scope=%q`, need),
	})
}

// authenticate lets a request go on with its principal. Operations that the specification opens to everybody need none.
func (s *server) authenticate(spec *spec) gin.HandlerFunc {
	return func(c *gin.Context) {
		if op := spec.operation(c.Request, c.FullPath()); op != nil && op.public {
			return
		}
		p, err := s.principal(c.Request.Context(), c.GetHeader("Authorization"))
		if err == nil {
			err = p.inScope(c.Request.Method)
		}
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
	raw = strings.TrimSpace(raw)
	if strings.HasPrefix(raw, personalPrefix) {
		return s.personal(ctx, raw)
	}
	claims, err := s.verifier.Verify(raw)
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
