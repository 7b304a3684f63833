package fetch

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/atlas-platform/atlas/internal/sourceurl"
)

// target checks a URL, as far as that is possible without a connection, and brings it into canonical form.
func (p Policy) target(raw string) (*url.URL, error) {
	canonical, err := sourceurl.Canonical(raw)
	if err != nil {
		return nil, permanent(CodeInvalidURL, "the URL %s", err)
	}
	u, err := url.Parse(canonical)
	if err != nil {
		return nil, permanent(CodeInvalidURL, "the URL can't be read")
	}
	host := u.Hostname()
	if address, err := netip.ParseAddr(host); err == nil {
		return u, p.check(netip.AddrPortFrom(address, port(u)))
	}
	labels := strings.Split(host, ".")
	switch {
	case numeric(labels[len(labels)-1]):
		// What a resolver may take for an IPv4 address: 2130706433, 0x7f.1, 0177.0.0.1 (https://url.spec.whatwg.org/#ends-in-a-number-checker).
		return nil, permanent(CodeInvalidURL, "the URL's host ends in a number but is no IPv4 address in its usual form")
	case len(labels) == 1:
		return nil, permanent(CodeBlockedAddress, "the host is not on the public Internet") // localhost, a neighbour in the cluster
	}
	return u, nil
}

func numeric(label string) bool {
	if strings.HasPrefix(label, "0x") {
		return strings.Trim(label[2:], "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// port is the one that a canonical URL is served on.
func port(u *url.URL) uint16 {
	if n, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
		return uint16(n)
	}
	if u.Scheme == "https" {
		return 443
	}
	return 80
}
