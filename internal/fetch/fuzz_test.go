package fetch_test

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/fetch"
)

func listenAt(host string) (net.Listener, error) { return net.Listen("tcp", host+":0") }

// legacy reads a host as inet_aton does, which is where odd spellings come from: one to four parts in decimal, octal or hexadecimal, the last of
// which fills what is left.
func legacy(host string) (netip.Addr, bool) {
	parts := strings.Split(strings.TrimSuffix(host, "."), ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var address uint64
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 0, 64)
		if strings.HasPrefix(part, "0") && len(part) > 1 && !strings.HasPrefix(strings.ToLower(part), "0x") {
			n, err = strconv.ParseUint(part, 8, 64)
		}
		if err != nil || strings.ContainsAny(part, "_bBoO+") && !strings.HasPrefix(strings.ToLower(part), "0x") {
			return netip.Addr{}, false
		}
		if i < len(parts)-1 {
			address = address<<8 | n&255
			continue
		}
		left := uint(8 * (4 - i))
		address = address<<left | n&(1<<left-1)
	}
	return netip.AddrFrom4([4]byte{byte(address >> 24), byte(address >> 16), byte(address >> 8), byte(address)}), true
}

// FuzzTarget looks for a URL that passes although somebody could take its host for an address inside.
func FuzzTarget(f *testing.F) {
	for _, host := range inside {
		f.Add("http://" + host + "/")
		f.Add("https://user@" + host + ":8080")
	}
	f.Add("https://example.com/path?query#fragment")
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := fetch.Target(fetch.Policy{}, raw)
		if err != nil {
			return
		}
		require.Contains(t, []string{"http", "https"}, u.Scheme)
		require.Nil(t, u.User)
		again, err := url.Parse(u.String())
		require.NoError(t, err)
		require.Equal(t, u.Host, again.Host)
		host := u.Hostname()
		if address, err := netip.ParseAddr(host); err == nil {
			require.NoError(t, fetch.Check(fetch.Policy{}, netip.AddrPortFrom(address, 443)))
			return
		}
		_, odd := legacy(host)
		require.False(t, odd, "%q is an address to inet_aton", host)
		require.Contains(t, host, ".")
		for _, r := range host {
			require.True(t, r == '-' || r == '.' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z', "%q", host)
		}
	})
}

func FuzzRobots(f *testing.F) {
	f.Add("User-agent: *\nDisallow: /a*b$\nAllow: /\n", "/axb")
	f.Add("\xef\xbb\xbfuser-agent:atlasbot\rdisallow:%2f%zz", "/%C3%BC")
	f.Fuzz(func(t *testing.T, content, path string) {
		u := &url.URL{Scheme: "http", Host: "example.com", Path: path}
		fetch.RobotsAllow(content, "atlasbot", u)
		require.True(t, fetch.RobotsAllow("User-agent: atlasbot\nAllow: /\n"+"User-agent: other\n"+"Disallow: /", "atlasbot", u))
	})
}
