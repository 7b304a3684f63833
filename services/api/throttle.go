package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"strings"
	"time"
)

const (
	attemptWindow = 5 * time.Minute
	// maxForAccount lets nobody guess; maxForAddress leaves room for an office behind one address.
	maxForAccount = 10
	maxForAddress = 100
)

// quota is how many wrong passwords one key may have in a window, and what is left.
type quota struct {
	name  string
	max   int
	key   []byte
	left  int
	reset int // seconds
}

// attempt is one try at a password, counted in the database.
type attempt []quota

// takeAttempt counts a try at the password of an account, which need not exist. It returns a 429 when there were too many.
func (s *server) takeAttempt(ctx context.Context, email string) (attempt, error) {
	a := attempt{
		{name: "account", max: maxForAccount, key: attemptKey("account", email)},
		{name: "address", max: maxForAddress, key: attemptKey("address", network(sourceOf(ctx).address))},
	}
	rows, err := s.queries.TakeAttempts(ctx, attemptWindow.Seconds(), a.keys())
	if err != nil {
		return nil, fmt.Errorf("count the attempt: %w", err)
	}
	wait := 0
	for i := range a {
		for _, row := range rows {
			if !bytes.Equal(row.Key, a[i].key) {
				continue
			}
			a[i].left = max(0, a[i].max-int(row.Attempts))
			a[i].reset = max(1, int(math.Ceil(row.SecondsLeft)))
			if int(row.Attempts) > a[i].max {
				wait = max(wait, a[i].reset)
			}
		}
	}
	if wait > 0 {
		s.returnAttempt(ctx, a) // so that a blocked address can't use up the account's quota
		return nil, tooManyAttempts(wait).with(a.header())
	}
	return a, nil
}

// returnAttempt takes the count back. When that fails the caller has one try less for a while.
func (s *server) returnAttempt(ctx context.Context, a attempt) {
	if err := s.queries.ReturnAttempts(ctx, a.keys()); err != nil {
		s.logger.WarnContext(ctx, "an attempt stays counted", slog.Any("error", err))
	}
}

func (a attempt) keys() [][]byte {
	keys := make([][]byte, len(a))
	for i, q := range a {
		keys[i] = q.key
	}
	return keys
}

// header says in the fields of the IETF's draft what the quotas are.
func (a attempt) header() map[string]string {
	limits, policies := make([]string, len(a)), make([]string, len(a))
	for i, q := range a {
		limits[i] = fmt.Sprintf("%q;r=%d;t=%d", q.name, q.left, q.reset)
		policies[i] = fmt.Sprintf("%q;q=%d;w=%d", q.name, q.max, int(attemptWindow.Seconds()))
	}
	return map[string]string{"RateLimit": strings.Join(limits, ", "), "RateLimit-Policy": strings.Join(policies, ", ")}
}

func attemptKey(kind, value string) []byte {
	sum := sha256.Sum256([]byte(kind + " " + value))
	return sum[:]
}

// network names what one subscriber has.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	if ip = subscriber(ip); ip.Is4() {
		return ip.String()
	}
	return ip.String() + "/64"
}

// subscriber is the first address of what one subscriber has: an IPv4 address, or a /64 of IPv6.
func subscriber(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if !ip.Is6() {
		return ip
	}
	prefix, _ := ip.Prefix(64) // 64 is in range for IPv6
	return prefix.Addr()
}
