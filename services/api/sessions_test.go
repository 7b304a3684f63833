package api_test

import (
	"crypto/sha256"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/password"
)

// pair is what a login or a refresh hands out.
type pair struct {
	account
	refresh string
}

func (a answer) pair() pair {
	a.t.Helper()
	a.is(200)
	require.Equal(a.t, "Bearer", a.body["token_type"])
	require.InDelta(a.t, 3600, a.body["refresh_expires_in"], 0)
	return pair{account: account{token: a.body["access_token"].(string)}, refresh: a.body["refresh_token"].(string)}
}

// withPassword gives an account the password of every test.
func (b *testBundle) withPassword(name string) *account {
	b.t.Helper()
	ada := b.account(name)
	hash, err := password.NewHasher(password.Minimum, 1).Hash(b.t.Context(), testPassword)
	require.NoError(b.t, err)
	_, err = b.pool.Exec(b.t.Context(), "UPDATE users SET password_hash = $1 WHERE id = $2", hash, ada.id)
	require.NoError(b.t, err)
	return ada
}

func (b *testBundle) login(user *account, options ...option) pair {
	b.t.Helper()
	return b.call(nil, "POST", "/v1/auth/login", map[string]any{"email": user.email, "password": testPassword}, options...).pair()
}

func (b *testBundle) refresh(token string) answer {
	b.t.Helper()
	return b.call(nil, "POST", "/v1/auth/refresh", map[string]any{"refresh_token": token})
}

func TestRefreshRotates(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.withPassword("ada")
	first := b.login(ada)
	second := b.refresh(first.refresh).pair()
	require.NotEqual(t, first.refresh, second.refresh)
	third := b.refresh(second.refresh).pair()
	for _, p := range []pair{first, second, third} { // access tokens live on until they expire
		b.call(&p.account, "GET", "/v1/me", nil).is(200)
	}
	var plain, hashed int
	require.NoError(t, b.pool.QueryRow(t.Context(), "SELECT count(*) FILTER (WHERE hash = $1), count(*) FILTER (WHERE hash = $2) FROM refresh_tokens",
		[]byte(third.refresh), sha256Of(third.refresh)).Scan(&plain, &hashed))
	require.Equal(t, []int{0, 1}, []int{plain, hashed})

	b.refresh("atlas_rt_unknown").problem(401, "unauthenticated")
	b.refresh("").problem(422, "validation", "/refresh_token")
	b.refresh(first.token).problem(422, "validation", "/refresh_token")
	b.refresh(third.refresh).pair()
}

func sha256Of(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}

func TestReuseOfARefreshTokenEndsTheSession(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.withPassword("ada")
	other := b.login(ada)
	first := b.login(ada)
	second := b.refresh(first.refresh).pair()
	unknown := b.refresh("atlas_rt_unknown").problem(401, "unauthenticated")
	reused := b.refresh(first.refresh).problem(401, "unauthenticated")
	require.Equal(t, unknown.body["detail"], reused.body["detail"])
	b.refresh(second.refresh).problem(401, "unauthenticated")
	b.call(&first.account, "GET", "/v1/me", nil).problem(401, "unauthenticated")
	b.call(&second.account, "GET", "/v1/me", nil).problem(401, "unauthenticated")
	b.refresh(other.refresh).pair()
}

// TestConcurrentRefresh uses one token many times at once: one use wins, the next ends the session.
func TestConcurrentRefresh(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.login(b.withPassword("ada"))
	answers := make([]answer, 6)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = b.refresh(first.refresh) })
	}
	wg.Wait()
	var won []pair
	for _, a := range answers {
		if a.status == 200 {
			won = append(won, a.pair())
			continue
		}
		a.problem(401, "unauthenticated")
	}
	require.Len(t, won, 1)
	b.refresh(won[0].refresh).problem(401, "unauthenticated")
	b.call(&won[0].account, "GET", "/v1/me", nil).problem(401, "unauthenticated")
}

func TestRefreshEndsWithTheSessionOrTheAccount(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]string{
		"expired":  "UPDATE sessions SET expires_at = now()",
		"revoked":  "UPDATE sessions SET revoked_at = now()",
		"disabled": "UPDATE users SET disabled_at = now()",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			p := b.login(b.withPassword("ada"))
			_, err := b.pool.Exec(t.Context(), end)
			require.NoError(t, err)
			b.refresh(p.refresh).problem(401, "unauthenticated")
			b.call(&p.account, "GET", "/v1/me", nil).problem(401, "unauthenticated")
		})
	}
}

func TestOldSessionsAreForgotten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.withPassword("ada")
	p := b.login(ada)
	p = b.refresh(p.refresh).pair()
	_, err := b.pool.Exec(t.Context(), "UPDATE refresh_tokens SET used_at = now() - interval '2 hours' WHERE used_at IS NOT NULL")
	require.NoError(t, err)
	b.refresh(p.refresh).pair()
	count := func(query string) (n int) {
		require.NoError(t, b.pool.QueryRow(t.Context(), query).Scan(&n))
		return n
	}
	require.Equal(t, 2, count("SELECT count(*) FROM refresh_tokens"), "the newest and the one before it")
	_, err = b.pool.Exec(t.Context(), "UPDATE sessions SET revoked_at = now() - interval '25 hours'")
	require.NoError(t, err)
	b.login(ada)
	require.Equal(t, 1, count("SELECT count(*) FROM sessions"))
	require.Equal(t, 1, count("SELECT count(*) FROM refresh_tokens"))
}

func TestLogout(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.login(b.withPassword("ada"))
	second := b.refresh(first.refresh).pair()
	logout := func(token string) answer {
		return b.call(nil, "POST", "/v1/auth/logout", map[string]any{"refresh_token": token})
	}
	logout("atlas_rt_unknown").is(204)
	b.call(&second.account, "GET", "/v1/me", nil).is(200)
	logout(second.refresh).is(204)
	logout(second.refresh).is(204)
	b.refresh(second.refresh).problem(401, "unauthenticated")
	b.call(&second.account, "GET", "/v1/me", nil).problem(401, "unauthenticated")
}

func TestSessions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.withPassword("ada"), b.account("eve")
	laptop := b.login(ada, header("User-Agent", "laptop"))
	phone := b.login(ada, header("User-Agent", "\xff"+strings.Repeat("é", 300)))
	list := b.call(&laptop.account, "GET", "/v1/sessions", nil).is(200)
	require.Len(t, list.items(), 2)
	mine := list.items()[1]
	require.Equal(t, true, mine["current"])
	require.Equal(t, "laptop", mine["user_agent"])
	require.Equal(t, "127.0.0.1", mine["address"])
	require.Equal(t, false, list.items()[0]["current"])
	require.Len(t, []rune(list.items()[0]["user_agent"].(string)), 256)
	page := b.call(&laptop.account, "GET", "/v1/sessions?limit=1", nil).is(200)
	page = b.call(&laptop.account, "GET", "/v1/sessions?limit=1&cursor="+page.body["next_cursor"].(string), nil).is(200)
	require.Equal(t, mine["id"], page.items()[0]["id"])
	require.Nil(t, page.body["next_cursor"])

	theirs := "/v1/sessions/" + list.items()[0]["id"].(string)
	require.Empty(t, b.call(eve, "GET", "/v1/sessions", nil).is(200).items())
	b.call(eve, "DELETE", theirs, nil).problem(404, "not-found")
	b.call(b.operator(), "GET", "/v1/sessions", nil).problem(403, "forbidden")
	b.call(b.operator(), "DELETE", theirs, nil).problem(403, "forbidden")
	b.call(&laptop.account, "DELETE", theirs, nil).is(204)
	b.call(&laptop.account, "DELETE", theirs, nil).problem(404, "not-found")
	b.call(&phone.account, "GET", "/v1/me", nil).problem(401, "unauthenticated")
	b.refresh(phone.refresh).problem(401, "unauthenticated")
	require.Len(t, b.call(&laptop.account, "GET", "/v1/sessions", nil).is(200).items(), 1)
	b.call(&laptop.account, "DELETE", "/v1/sessions/"+mine["id"].(string), nil).is(204)
	b.call(&laptop.account, "GET", "/v1/me", nil).problem(401, "unauthenticated")
}

func TestChangePassword(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.withPassword("ada")
	laptop, phone := b.login(ada), b.login(ada)
	change := func(user *account, current, next string) answer {
		return b.call(user, "POST", "/v1/me/password", map[string]any{"current_password": current, "new_password": next})
	}
	change(&laptop.account, "wrong password", "a new password").problem(422, "validation", "/current_password")
	change(&laptop.account, testPassword, "short").problem(422, "validation", "/new_password")
	change(b.operator(), testPassword, "a new password").problem(403, "forbidden")
	b.call(&phone.account, "GET", "/v1/me", nil).is(200)
	change(&laptop.account, testPassword, "a new password").is(204)
	b.call(&laptop.account, "GET", "/v1/me", nil).is(200)
	b.refresh(laptop.refresh).pair()
	b.call(&phone.account, "GET", "/v1/me", nil).problem(401, "unauthenticated")
	b.refresh(phone.refresh).problem(401, "unauthenticated")
	b.call(nil, "POST", "/v1/auth/login", map[string]any{"email": ada.email, "password": testPassword}).problem(401, "unauthenticated")
	b.call(nil, "POST", "/v1/auth/login", map[string]any{"email": ada.email, "password": "a new password"}).is(200)
}
