package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

const (
	// refreshPrefix lets people and secret scanners tell what they have found.
	refreshPrefix = "atlas_rt_"
	secretBytes   = 32
	maxUserAgent  = 256
)

// source is where a request comes from.
type source struct{ address, userAgent string }

// sourceOf is where the request comes from that a handler answers.
func sourceOf(ctx context.Context) source {
	c, ok := ctx.Value(gin.ContextKey).(*gin.Context)
	if !ok {
		return source{}
	}
	agent := strings.ToValidUTF8(c.Request.UserAgent(), "?")
	if utf8.RuneCountInString(agent) > maxUserAgent {
		agent = string([]rune(agent)[:maxUserAgent])
	}
	return source{address: c.ClientIP(), userAgent: agent}
}

// newSecret makes a random token and the hash under which it is stored.
func newSecret(prefix string) (secret string, hash []byte) {
	random := make([]byte, secretBytes)
	_, _ = rand.Read(random) // never fails
	secret = prefix + base64.RawURLEncoding.EncodeToString(random)
	return secret, hashSecret(secret)
}

func hashSecret(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// startSession makes a session and its first tokens. It returns pgx.ErrNoRows when the account is not any more as user says.
func (s *server) startSession(ctx context.Context, user db.User) (gen.AccessToken, error) {
	id, err := newID()
	if err != nil {
		return gen.AccessToken{}, err
	}
	from := sourceOf(ctx)
	secret, hash := newSecret(refreshPrefix)
	_, err = s.queries.CreateSession(ctx, db.CreateSessionParams{
		ID: id, UserID: user.ID, PasswordHash: user.PasswordHash, TokenHash: hash,
		UserAgent: from.userAgent, Address: from.address, TtlSeconds: s.refreshTTL.Seconds(),
	})
	if err != nil {
		return gen.AccessToken{}, fmt.Errorf("start a session: %w", err)
	}
	if err := s.queries.PruneSessions(ctx, user.ID); err != nil {
		s.logger.WarnContext(ctx, "ended sessions stay for now", slog.Any("error", err))
	}
	return s.tokens(user.ID, id, secret)
}

// tokens answers with a session's next tokens.
func (s *server) tokens(user, session uuid.UUID, refresh string) (gen.AccessToken, error) {
	access, err := s.issuer.MintSession(user, session)
	if err != nil {
		return gen.AccessToken{}, err
	}
	return gen.AccessToken{
		AccessToken: access, TokenType: "Bearer", ExpiresIn: int(s.issuer.TTL().Seconds()),
		RefreshToken: refresh, RefreshExpiresIn: int(s.refreshTTL.Seconds()),
	}, nil
}

// Refresh implements gen.StrictServerInterface. Whatever is wrong with a token, the answer is the same.
func (s *server) Refresh(ctx context.Context, request gen.RefreshRequestObject) (gen.RefreshResponseObject, error) {
	refused := unauthenticated(challengeInvalid, "the refresh token is not valid: log in again")
	hash := hashSecret(request.Body.RefreshToken)
	from := sourceOf(ctx)
	secret, next := newSecret(refreshPrefix)
	var found db.LockRefreshTokenRow
	err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (err error) {
		q := s.queries.WithTx(tx)
		if found, err = q.LockRefreshToken(ctx, hash); err != nil {
			return fmt.Errorf("look up the refresh token: %w", err)
		}
		switch {
		case !found.Live:
			return nil
		case found.Used: // the revocation has to be committed: no error here
			return q.RevokeSessionOfToken(ctx, hash)
		}
		return q.RotateRefreshToken(ctx, db.RotateRefreshTokenParams{
			OldHash: hash, NewHash: next, SessionID: found.SessionID,
			UserAgent: from.userAgent, Address: from.address, TtlSeconds: s.refreshTTL.Seconds(),
		})
	})
	switch {
	case missing(err):
		return nil, refused
	case err != nil:
		return nil, fmt.Errorf("refresh a session: %w", err)
	case found.Live && found.Used:
		s.logger.WarnContext(ctx, "a refresh token was used twice: its session has ended",
			slog.String("session", found.SessionID.String()), slog.String("user", found.UserID.String()))
		return nil, refused
	case !found.Live:
		return nil, refused
	}
	pair, err := s.tokens(found.UserID, found.SessionID, secret)
	if err != nil {
		return nil, err
	}
	return gen.Refresh200JSONResponse(pair), nil
}

// Logout implements gen.StrictServerInterface.
func (s *server) Logout(ctx context.Context, request gen.LogoutRequestObject) (gen.LogoutResponseObject, error) {
	if err := s.queries.RevokeSessionOfToken(ctx, hashSecret(request.Body.RefreshToken)); err != nil {
		return nil, fmt.Errorf("end a session: %w", err)
	}
	return gen.Logout204Response{}, nil
}

// ListSessions implements gen.StrictServerInterface.
func (s *server) ListSessions(ctx context.Context, request gen.ListSessionsRequestObject) (gen.ListSessionsResponseObject, error) {
	p, err := loginOnly(ctx)
	if err != nil {
		return nil, err
	}
	from, err := s.resume(request.Params.Cursor, position{ID: lastID}, "sessions", p.id())
	if err != nil {
		return nil, err
	}
	size := pageSize(request.Params.Limit)
	rows, err := s.queries.ListSessions(ctx, p.id(), from.ID, size+1)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	rows, more := cut(rows, size)
	out := gen.ListSessions200JSONResponse{Items: make([]gen.Session, len(rows))}
	for i, row := range rows {
		out.Items[i] = gen.Session{
			ID: row.ID, Current: row.ID == p.session, UserAgent: row.UserAgent, Address: row.Address,
			CreatedAt: row.CreatedAt.UTC(), LastUsedAt: row.LastUsedAt.UTC(), ExpiresAt: row.ExpiresAt.UTC(),
		}
	}
	if more {
		out.NextCursor, err = s.next(ctx, position{ID: rows[len(rows)-1].ID}, "sessions", p.id())
	}
	return out, err
}

// RevokeSession implements gen.StrictServerInterface.
func (s *server) RevokeSession(ctx context.Context, request gen.RevokeSessionRequestObject) (gen.RevokeSessionResponseObject, error) {
	p, err := loginOnly(ctx)
	if err != nil {
		return nil, err
	}
	revoked, err := s.queries.RevokeSession(ctx, request.ID, p.id())
	if err != nil {
		return nil, fmt.Errorf("end a session: %w", err)
	}
	if revoked == 0 {
		return nil, notFound("you have no such session, or it has ended")
	}
	return gen.RevokeSession204Response{}, nil
}
