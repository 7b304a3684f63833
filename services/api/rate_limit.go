package api

import (
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/bounded"
)

const (
	// quotaWindow is the time in which a caller may use the whole quota at once, or spread it out.
	quotaWindow = time.Minute
	// maxQuotas bounds the memory, about 100 bytes each. A caller whose quota is full again has nothing to remember, so even a small quota lets
	// far more callers than this come and go; when there are too many, those who have used little are forgotten first, at no harm to anybody.
	maxQuotas = 1 << 15
)

// rateLimiter counts the requests of each caller in this process: the generic cell rate algorithm, which keeps one time for each. Users and
// addresses are apart, so that no flood from addresses that have not logged in touches anybody who has.
type rateLimiter struct {
	limit     int
	policy    string
	users     *bounded.Map[uuid.UUID, time.Time]
	addresses *bounded.Map[netip.Addr, time.Time]
}

// newRateLimiter returns nil, which counts nothing, for a limit of 0.
func newRateLimiter(limit int) *rateLimiter {
	if limit <= 0 {
		return nil
	}
	// The time is when the quota is full again: whoever has used most is worth most to remember.
	rank := func(full time.Time) int64 { return full.UnixNano() }
	return &rateLimiter{
		limit: limit, policy: fmt.Sprintf(`"requests";q=%d;w=%d`, limit, seconds(quotaWindow)), users: bounded.New[uuid.UUID](maxQuotas, rank), addresses: bounded.New[netip.Addr](maxQuotas, rank),
	}
}

// usage is what one request left of a caller's quota.
type usage struct {
	left int
	// full is how long it takes until nothing is used.
	full time.Duration
	// wait is how long the caller must wait; zero when the request may go on.
	wait time.Duration
}

// take counts a request at a time, given when the quota would have been full again, and returns when it is now.
func (l *rateLimiter) take(now, full time.Time) (time.Time, usage) {
	if full.Before(now) {
		full = now
	}
	each := quotaWindow / time.Duration(l.limit)
	used := full.Sub(now) + each
	if wait := used - quotaWindow; wait > 0 {
		return full, usage{full: full.Sub(now), wait: wait}
	}
	return now.Add(used), usage{left: int((quotaWindow - used) / each), full: used}
}

// ofUser counts a request of a user, or of a part of Atlas itself as the nil UUID.
func (l *rateLimiter) ofUser(now time.Time, id uuid.UUID) (u usage) {
	l.users.Update(id, func(full time.Time) time.Time {
		full, u = l.take(now, full)
		return full
	})
	return u
}

// ofAddress counts a request of somebody unknown.
func (l *rateLimiter) ofAddress(now time.Time, address string) (u usage) {
	ip, _ := netip.ParseAddr(address) // what is no address, a test's pipe for example, is one caller
	l.addresses.Update(subscriber(ip), func(full time.Time) time.Time {
		full, u = l.take(now, full)
		return full
	})
	return u
}

// header tells the caller in the fields of the IETF's draft.
func (l *rateLimiter) header(c *gin.Context, u usage) {
	c.Header("RateLimit", fmt.Sprintf(`"requests";r=%d;t=%d`, u.left, seconds(u.full)))
	c.Header("RateLimit-Policy", l.policy)
}

// seconds rounds up.
func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// countUser counts a request of somebody who is known. It returns a 429 when there were too many.
func (s *server) countUser(c *gin.Context, id uuid.UUID) error {
	if s.limiter == nil {
		return nil
	}
	return s.limiter.check(c, s.limiter.ofUser(s.clock(), id))
}

// countAddress counts a request of somebody unknown. It returns a 429 when there were too many.
func (s *server) countAddress(c *gin.Context) error {
	if s.limiter == nil {
		return nil
	}
	return s.limiter.check(c, s.limiter.ofAddress(s.clock(), c.ClientIP()))
}

func (l *rateLimiter) check(c *gin.Context, u usage) error {
	l.header(c, u)
	if u.wait == 0 {
		return nil
	}
	return tooManyRequests(l.limit, seconds(u.wait))
}

func tooManyRequests(limit, wait int) *problem {
	return &problem{
		status: http.StatusTooManyRequests, kind: "too-many-requests", title: "Too many requests",
		detail: fmt.Sprintf("at most %d requests a minute are possible: try again in %d s", limit, wait),
		header: map[string]string{"Retry-After": strconv.Itoa(wait)},
	}
}
