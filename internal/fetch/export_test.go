package fetch

import (
	"net/netip"
	"net/url"
)

// Check is Policy.check.
func Check(p Policy, to netip.AddrPort) error { return p.check(to) }

// Target is Policy.target.
func Target(p Policy, raw string) (*url.URL, error) { return p.target(raw) }

// RobotsAllow parses a robots.txt and asks it.
func RobotsAllow(content, product string, u *url.URL) bool {
	return parseRobots([]byte(content), product).allows(u)
}

// Absolute is absolute.
func Absolute(address string) string { return absolute(address) }

// RobotsBytes is how much text of robots.txt files a fetcher remembers.
func RobotsBytes(f *Fetcher) (n int) {
	f.hosts.mu.Lock()
	defer f.hosts.mu.Unlock()
	for _, one := range f.hosts.byID {
		for _, r := range one.robots.rules {
			n += len(r.pattern)
		}
	}
	return n
}
