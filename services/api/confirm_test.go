package api_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/search"
)

// trips counts the round trips to the database.
type trips struct{ n atomic.Int64 }

func (c *trips) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}
func (c *trips) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *trips) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.n.Add(1)
	return ctx
}
func (c *trips) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (c *trips) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// apiToken makes a personal API token for a user who has a session.
func (b *testBundle) apiToken(user *account, scopes ...string) (id string, _ *account) {
	b.t.Helper()
	a := b.call(user, "POST", "/v1/tokens", map[string]any{"name": "t", "scopes": scopes, "expires_at": time.Now().Add(time.Hour)}).is(201)
	return a.id(), &account{id: user.id, email: user.email, token: a.body["token"].(string)}
}

// TestCallerCostsNoRoundTrip: the look-up of the caller travels with the first query.
func TestCallerCostsNoRoundTrip(t *testing.T) {
	t.Parallel()
	b := setup(t)
	counter := &trips{}
	cfg := b.pool.Config()
	cfg.ConnConfig.Tracer, cfg.MaxConns = counter, 1
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	counted := setupWith(t, pool, search.NewPostgres(pool))

	ada := counted.account("ada")
	_, script := counted.apiToken(ada, "read", "write")
	c := counted.collection(ada, "c")
	item := counted.item(ada, c, "one", "tag")
	for name, user := range map[string]*account{"login": ada, "API token": script} {
		for path, want := range map[string]int64{"/v1/items/" + item: 1, "/v1/items": 1, "/v1/items?tag=tag": 1, "/v1/me": 1} {
			counted.call(user, "GET", path, nil).is(200) // prepares statements, learns of the token
			before := counter.n.Load()
			counted.call(user, "GET", path, nil).is(200)
			require.Equal(t, want, counter.n.Load()-before, "%s: %s", name, path)
		}
	}
}

// TestRevocationIsImmediate asks again with what worked a moment ago, and is in every cache.
func TestRevocationIsImmediate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	owner := b.account("owner")
	c := b.collection(owner, "c")
	for name, revoke := range map[string]func(user pair, token string){
		"disabled": func(user pair, _ string) {
			b.call(b.admin("admin-"+user.email[:3]), "PATCH", "/v1/users/"+user.id, map[string]any{"disabled": true}).is(200)
		},
		"logged out": func(user pair, token string) {
			b.call(&user.account, "DELETE", "/v1/tokens/"+token, nil).is(204)
			b.call(nil, "POST", "/v1/auth/logout", map[string]any{"refresh_token": user.refresh}).is(204)
		},
	} {
		ada := b.withPassword(name[:3] + "-member")
		member := b.login(ada)
		member.id, member.email = ada.id, ada.email
		b.member(owner, c, &member.account, "editor")
		token, script := b.apiToken(&member.account, "read", "write")
		item := b.item(owner, c, name)
		for _, user := range []*account{&member.account, script} {
			b.call(user, "GET", "/v1/items/"+item, nil).is(200)
			b.call(user, "GET", "/v1/items?collection_id="+c, nil).is(200)
			b.call(user, "PATCH", "/v1/items/"+item, map[string]any{"content": "by " + user.token[:12]}).is(200)
		}
		revoke(member, token)
		before := len(b.envelopes())
		for _, user := range []*account{&member.account, script} {
			b.call(user, "GET", "/v1/items/"+item, nil).problem(401, "unauthenticated")
			b.call(user, "GET", "/v1/items/"+c, nil).problem(401, "unauthenticated")
			b.call(user, "GET", "/v1/items", nil).problem(401, "unauthenticated")
			b.call(user, "GET", "/v1/items?tag=x", nil).problem(401, "unauthenticated")
			b.call(user, "GET", "/v1/items?cursor=x", nil).problem(401, "unauthenticated")
			b.call(user, "POST", "/v1/items", map[string]any{"collection_id": c, "title": "t", "content": ""}).problem(401, "unauthenticated")
			b.call(user, "POST", "/v1/items", map[string]any{"collection_id": c, "title": "t", "content": ""}, header("Idempotency-Key", "k")).
				problem(401, "unauthenticated")
			b.call(user, "PATCH", "/v1/items/"+item, map[string]any{"title": "u"}).problem(401, "unauthenticated")
			b.call(user, "DELETE", "/v1/items/"+item, nil).problem(401, "unauthenticated")
			b.call(user, "GET", "/v1/me", nil).problem(401, "unauthenticated")
		}
		require.Len(t, b.envelopes(), before, name)
		require.Equal(t, name, b.call(owner, "GET", "/v1/items/"+item, nil).is(200).body["title"])
	}
}
