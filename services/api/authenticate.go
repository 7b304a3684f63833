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

// sessionID is nil when the token belongs to no session.
func (p principal) sessionID() *uuid.UUID {
	if p.session == uuid.Nil {
		return nil
	}
	return &p.session
}

// actor is who an event names: nobody when the platform itself acts.
func (p principal) actor() *uuid.UUID {
	if p.service {
		return nil
	}
	return &p.user.ID
}

// call is one request by a principal.
type call struct {
	principal principal
	// lookUp finds out whether the principal still counts. It is nil for a part of Atlas itself.
	lookUp func(ctx context.Context, q *db.Queries) (principal, error)
	// confirmed says that the principal was looked up for this request; see joined.
	confirmed bool
	// used is the API token whose use is to be recorded.
	used *uuid.UUID
	// collections are those that the request's events are about.
	collections []uuid.UUID
}

// pending says that the principal is still to be looked up.
func (c *call) pending() bool { return c.lookUp != nil && !c.confirmed }

// anonymous says that not even the token tells who calls.
func (c *call) anonymous() bool { return !c.principal.service && c.principal.id() == uuid.Nil }

type callKey struct{}

func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{}
}

// caller returns the request's principal. Only routes behind authenticate have one.
func caller(ctx context.Context) principal { return callOf(ctx).principal }

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

// confirmLater names the operations whose own statement confirms the caller, or takes the look-up along, so that it costs no round trip. Such an
// operation may rely on the caller's id only. It reads with server.reader, or with a statement that says whether the caller counts; it writes with one
// that does nothing unless the caller does. Nothing of it may reach the world before confirmed has let its answer go.
var confirmLater = map[string]bool{"createItem": true, "getItem": true, "listItems": true}

// authenticate lets a request go on with its principal, within the quota of whoever calls. Operations that the specification opens to everybody
// need no principal.
func (s *server) authenticate(spec *spec) gin.HandlerFunc {
	return func(c *gin.Context) {
		op := spec.operation(c.Request, c.FullPath())
		if op != nil && op.public {
			if err := s.countAddress(c); err != nil {
				s.fail(c, err)
			}
			return
		}
		called, err := s.identify(c)
		if err == nil {
			err = called.principal.inScope(c.Request.Method)
		}
		if err == nil && (op == nil || !confirmLater[op.value.OperationID]) {
			err = s.confirm(c.Request.Context(), called, s.queries)
			s.recordUse(c.Request.Context(), called)
		}
		if err != nil {
			s.fail(c, err)
			return
		}
		c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), callKey{}, called))
	}
}

// identify finds out who a request says it comes from, and counts it. What is certain is that the token is genuine; whether it still counts is left
// to confirm. Who is unknown is counted before anything is looked up for them: guesses must not get through to the database without end.
func (s *server) identify(c *gin.Context) (*call, error) {
	called, err := s.bearer(c.Request.Header.Values("Authorization"))
	if err != nil || called.anonymous() {
		if limited := s.countAddress(c); limited != nil {
			return nil, limited
		}
		if err == nil {
			err = s.confirm(c.Request.Context(), called, s.queries)
		}
		if err != nil {
			return nil, err
		}
	}
	return called, s.countUser(c, called.principal.id())
}

// bearer reads the token.
func (s *server) bearer(header []string) (*call, error) {
	if len(header) == 0 {
		return nil, unauthenticated(challengeMissing, "send a token from POST /v1/auth/login, or one from POST /v1/tokens, as Authorization: Bearer <token>")
	}
	scheme, raw, found := strings.Cut(header[0], " ")
	if !found || len(header) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return nil, unauthenticated(challengeMissing, "the Authorization header is not one Bearer <access_token>")
	}
	raw = strings.TrimSpace(raw)
	if strings.HasPrefix(raw, personalPrefix) {
		return s.personalCall(hashSecret(raw)), nil
	}
	claims, err := s.verifier.Verify(raw)
	switch {
	case errors.Is(err, token.ErrExpired):
		return nil, unauthenticated(challengeInvalid, "the access token has expired: log in again")
	case err != nil:
		return nil, unauthenticated(challengeInvalid, "the access token is not valid")
	case claims.Service:
		return &call{principal: principal{service: true, admin: claims.Admin}}, nil
	}
	called := &call{principal: principal{user: db.User{ID: claims.UserID}, session: claims.SessionID}}
	called.lookUp = func(ctx context.Context, q *db.Queries) (principal, error) {
		user, err := userOf(ctx, q, claims)
		if missing(err) || (err == nil && user.DisabledAt != nil) {
			return principal{}, unauthenticated(challengeInvalid, "the access token's session has ended, or its account is gone or disabled")
		}
		if err != nil {
			return principal{}, fmt.Errorf("look up the caller: %w", err)
		}
		return principal{user: user, session: claims.SessionID, admin: user.IsAdmin}, nil
	}
	return called, nil
}

// userOf finds the user and, in the same round trip, whether the token's session goes on.
func userOf(ctx context.Context, q *db.Queries, claims token.Claims) (db.User, error) {
	if claims.SessionID == uuid.Nil {
		return q.GetUser(ctx, claims.UserID)
	}
	return q.GetUserOfSession(ctx, claims.UserID, claims.SessionID)
}

// confirm looks up the caller with q, unless that was done.
func (s *server) confirm(ctx context.Context, called *call, q *db.Queries) error {
	if !called.pending() {
		return nil
	}
	p, err := called.lookUp(ctx, q)
	if err != nil {
		return err
	}
	called.principal, called.confirmed = p, true
	return nil
}

// stillCounts looks the caller up again, for what takes long: the session may have ended meanwhile, or the API token may be gone.
func stillCounts(ctx context.Context, q *db.Queries) error {
	called := callOf(ctx)
	if called.lookUp == nil {
		return nil
	}
	_, err := called.lookUp(ctx, q)
	return err
}

// confirmed lets the answer of an operation out once its caller is confirmed: whoever is refused learns that and nothing else.
func (s *server) confirmed(operation gen.StrictHandlerFunc, _ string) gen.StrictHandlerFunc {
	return func(c *gin.Context, request any) (any, error) {
		response, err := operation(c, request)
		called := callOf(c)
		if refused := s.confirm(c, called, s.queries); refused != nil {
			return nil, refused
		}
		s.recordUse(c, called)
		return response, err
	}
}
