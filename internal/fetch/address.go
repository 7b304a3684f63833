package fetch

import (
	"net/netip"
	"slices"
)

// Policy says where connections may go. The zero value is the public Internet's web servers.
type Policy struct {
	// Allow are networks that may be reached on every port although they are not public, such as an intranet's. Deny are networks that may not be
	// reached although they are public, such as the operator's own; it goes before Allow.
	Allow, Deny []netip.Prefix
}

// ports are those of web servers. Others are of services that an outsider has no business to reach from here, however public their address.
var ports = []uint16{80, 443, 8080, 8443}

// notPublic4 are IPv4's networks that are not globally reachable (IANA's registry of special-purpose addresses, RFC 6890), and public addresses that
// clouds answer on to their own machines.
var notPublic4 = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24",
	"192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"168.63.129.16/32", // Azure's
)

// public6 is all that was ever given to networks. What is outside of it is loopback, unspecified, IPv4-mapped and IPv4-compatible, NAT64, unique
// local, link-local, site-local, multicast or nobody's.
var public6 = netip.MustParsePrefix("2000::/3")

// notPublic6 are IPv6's exceptions within public6: protocol assignments with Teredo, benchmarks and overlays; documentation; 6to4; the 6bone.
var notPublic6 = prefixes("2001::/23", "2001:db8::/32", "2002::/16", "3ffe::/16", "3fff::/20")

// nat64 embeds an IPv4 address, which counts as well where an operator allows the network.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		out[i] = netip.MustParsePrefix(text)
	}
	return out
}

// check refuses an address and port that the policy doesn't let connections go to.
func (p Policy) check(to netip.AddrPort) error {
	address := to.Addr().Unmap()
	allowed, any := p.reachable(address)
	switch {
	case !allowed:
		return permanent(CodeBlockedAddress, "the host is not on the public Internet")
	case !any && !slices.Contains(ports, to.Port()):
		return permanent(CodeBlockedPort, "port %d is not one of a web server's: %v", to.Port(), ports)
	}
	return nil
}

// reachable reports whether connections may go to the address, and whether they may on any port.
func (p Policy) reachable(address netip.Addr) (reachable, anyPort bool) {
	if within(p.Deny, address) {
		return false, false
	}
	if within(p.Allow, address) {
		if nat64.Contains(address) {
			bytes := address.As16()
			return p.reachable(netip.AddrFrom4([4]byte(bytes[12:])))
		}
		return true, true
	}
	if address.Is4() {
		return !within(notPublic4, address), false
	}
	return public6.Contains(address) && !within(notPublic6, address), false
}

func within(networks []netip.Prefix, address netip.Addr) bool {
	return slices.ContainsFunc(networks, func(network netip.Prefix) bool { return network.Contains(address) })
}
