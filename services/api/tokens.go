package api

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

const (
	personalPrefix   = "atlas_pat_"
	maxTokens        = 100
	maxTokenLifetime = 366 * 24 * time.Hour
	// maxKnownTokens bounds the memory for the API tokens that are in use.
	maxKnownTokens = 1 << 14
)

// personalToken is what never changes about an API token.
type personalToken struct {
	user   uuid.UUID
	scopes []string
}

// personalCall is a call with an API token. Whose it is takes a query the first time, whose answer is kept; whether the token still counts is looked
// up for every request.
func (s *server) personalCall(hash []byte) *call {
	called := &call{}
	called.lookUp = func(ctx context.Context, q *db.Queries) (principal, error) {
		row, err := q.GetUserOfAPIToken(ctx, hash)
		if missing(err) || (err == nil && row.User.DisabledAt != nil) {
			s.personal.Delete([sha256.Size]byte(hash))
			return principal{}, unauthenticated(challengeInvalid, "the API token is not valid or has expired, or its account is disabled")
		}
		if err != nil {
			return principal{}, fmt.Errorf("look up the API token: %w", err)
		}
		if row.Untouched {
			called.used = &row.TokenID
		}
		s.personal.Put([sha256.Size]byte(hash), personalToken{user: row.User.ID, scopes: row.Scopes})
		admin := row.User.IsAdmin && slices.Contains(row.Scopes, string(gen.ScopeAdmin))
		return principal{user: row.User, admin: admin, personal: true, scopes: row.Scopes}, nil
	}
	if known, found := s.personal.Get([sha256.Size]byte(hash)); found {
		called.principal = principal{user: db.User{ID: known.user}, personal: true, scopes: known.scopes}
	}
	return called
}

// recordUse notes, at most once a minute, that an API token was used.
func (s *server) recordUse(ctx context.Context, called *call) {
	if called.used == nil {
		return
	}
	if err := s.queries.TouchAPIToken(ctx, *called.used); err != nil {
		s.logger.WarnContext(ctx, "the use of an API token is not recorded", slog.Any("error", err))
	}
	called.used = nil
}

// CreateToken implements gen.StrictServerInterface.
func (s *server) CreateToken(ctx context.Context, request gen.CreateTokenRequestObject) (gen.CreateTokenResponseObject, error) {
	p, err := loginOnly(ctx)
	if err != nil {
		return nil, err
	}
	var wrong []gen.FieldError
	if slices.Contains(request.Body.Scopes, gen.ScopeAdmin) && !p.admin {
		wrong = append(wrong, pointed("/scopes", "may contain admin only for a platform admin"))
	}
	now, expires := s.now(), request.Body.ExpiresAt.UTC()
	if !expires.After(now) || expires.After(now.Add(maxTokenLifetime)) {
		wrong = append(wrong, pointed("/expires_at", "must be in the future and at most 366 days away"))
	}
	if len(wrong) > 0 {
		return nil, unprocessable(wrong...)
	}
	id, err := newID()
	if err != nil {
		return nil, err
	}
	scopes := make([]string, 0, len(request.Body.Scopes))
	for _, scope := range request.Body.Scopes {
		scopes = append(scopes, string(scope))
	}
	slices.Sort(scopes)
	secret, hash := newSecret(personalPrefix)
	row, err := s.queries.CreateAPIToken(ctx, db.CreateAPITokenParams{
		ID: id, UserID: p.id(), Name: request.Body.Name, Scopes: slices.Compact(scopes), Hash: hash, ExpiresAt: expires, MaxTokens: maxTokens,
	})
	if missing(err) {
		return nil, conflict("too-many-tokens", fmt.Sprintf("you have %d API tokens: delete one first", maxTokens))
	}
	if err != nil {
		return nil, fmt.Errorf("create an API token: %w", err)
	}
	t := tokenBody(row)
	return gen.CreateToken201JSONResponse{
		ID: t.ID, Name: t.Name, Scopes: t.Scopes, CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt, LastUsedAt: t.LastUsedAt, Token: secret,
	}, nil
}

// ListTokens implements gen.StrictServerInterface.
func (s *server) ListTokens(ctx context.Context, request gen.ListTokensRequestObject) (gen.ListTokensResponseObject, error) {
	p, err := loginOnly(ctx)
	if err != nil {
		return nil, err
	}
	from, err := s.resume(request.Params.Cursor, position{ID: lastID}, "tokens", p.id())
	if err != nil {
		return nil, err
	}
	size := pageSize(request.Params.Limit)
	rows, err := s.queries.ListAPITokens(ctx, p.id(), from.ID, size+1)
	if err != nil {
		return nil, fmt.Errorf("list API tokens: %w", err)
	}
	rows, more := cut(rows, size)
	out := gen.ListTokens200JSONResponse{Items: make([]gen.APIToken, len(rows))}
	for i, row := range rows {
		out.Items[i] = tokenBody(row)
	}
	if more {
		out.NextCursor, err = s.next(ctx, position{ID: rows[len(rows)-1].ID}, "tokens", p.id())
	}
	return out, err
}

// DeleteToken implements gen.StrictServerInterface.
func (s *server) DeleteToken(ctx context.Context, request gen.DeleteTokenRequestObject) (gen.DeleteTokenResponseObject, error) {
	p, err := loginOnly(ctx)
	if err != nil {
		return nil, err
	}
	deleted, err := s.queries.DeleteAPIToken(ctx, request.ID, p.id())
	if err != nil {
		return nil, fmt.Errorf("delete an API token: %w", err)
	}
	if deleted == 0 {
		return nil, notFound("you have no such API token")
	}
	return gen.DeleteToken204Response{}, nil
}

func tokenBody(row db.ApiToken) gen.APIToken {
	out := gen.APIToken{
		ID: row.ID, Name: row.Name, Scopes: make([]gen.APITokenScope, len(row.Scopes)),
		CreatedAt: row.CreatedAt.UTC(), ExpiresAt: row.ExpiresAt.UTC(), LastUsedAt: utc(row.LastUsedAt),
	}
	for i, scope := range row.Scopes {
		out.Scopes[i] = gen.APITokenScope(scope)
	}
	return out
}
