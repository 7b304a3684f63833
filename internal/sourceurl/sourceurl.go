// Package sourceurl brings the URL of an item's source into one form, so that the same source is recognised however it is written: RFC 3986,
// 6.2.2 and 6.2.3, without what only tells where a visitor came from.
package sourceurl

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// MaxLength is how many characters a URL may have, as it was given and in canonical form.
const MaxLength = 2048

// What is wrong with a URL; the messages follow the name of a field.
var (
	ErrNotHTTP     = errors.New("must be an http or https URL")
	ErrHost        = errors.New("must have a host name or an IP address, and a port from 1 to 65535 if any")
	ErrCredentials = errors.New("must not have a user name or a password")
	ErrTooLong     = fmt.Errorf("must have at most %d characters, percent-encoded", MaxLength)
)

// Key is what canonical URLs are compared by: all keys have the same length, so they fit an index.
func Key(canonical string) []byte {
	sum := sha256.Sum256([]byte(canonical))
	return sum[:]
}

// Canonical returns the one form of raw: lower-case scheme and host in ASCII (IDNA), no default port, no dot segments, "/" for an empty path,
// percent-encoding only where it is needed, no fragment and no tracking parameters. The order of the other parameters stays. The canonical form of a
// canonical form is itself.
func Canonical(raw string) (string, error) {
	if utf8.RuneCountInString(raw) > MaxLength {
		return "", ErrTooLong
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || (u.Scheme != "http" && u.Scheme != "https") {
		return "", ErrNotHTTP
	}
	if u.User != nil {
		return "", ErrCredentials
	}
	host, err := canonicalHost(u)
	if err != nil {
		return "", err
	}
	out := u.Scheme + "://" + host + withoutDots(encode(u.EscapedPath(), pathCharacters))
	if query := withoutTracking(encode(u.RawQuery, queryCharacters)); query != "" {
		out += "?" + query
	}
	if len(out) > MaxLength {
		return "", ErrTooLong
	}
	return out, nil
}

// names maps host names as browsers do. Underscores are no good names, but they are in use.
var names = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false), idna.CheckHyphens(false), idna.VerifyDNSLength(true))

func canonicalHost(u *url.URL) (string, error) {
	host, err := canonicalName(u)
	if err != nil {
		return "", err
	}
	if u.Port() == "" {
		return host, nil
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case err != nil || port == 0:
		return "", ErrHost
	case u.Scheme == "http" && port == 80, u.Scheme == "https" && port == 443:
		return host, nil
	}
	return host + ":" + strconv.FormatUint(port, 10), nil
}

func canonicalName(u *url.URL) (string, error) {
	if strings.HasPrefix(u.Host, "[") {
		address, err := netip.ParseAddr(u.Hostname())
		if err != nil || !address.Is6() || address.Zone() != "" {
			return "", ErrHost
		}
		return "[" + address.String() + "]", nil
	}
	if !utf8.ValidString(u.Hostname()) { // percent-encoded, it may be anything
		return "", ErrHost
	}
	name, err := names.ToASCII(u.Hostname())
	name = strings.TrimSuffix(name, ".") // the root's: the same host
	unusual := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	}
	if err != nil || name == "" || strings.HasSuffix(name, ".") || strings.ContainsFunc(name, unusual) {
		return "", ErrHost
	}
	return name, nil
}

const (
	unreserved      = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	pathCharacters  = unreserved + "!$&'()*+,;=:@/"
	queryCharacters = pathCharacters + "?"
)

// encode writes percent-encodings in capitals, decodes those of unreserved characters, and encodes what is neither allowed nor encoded.
func encode(s, allowed string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' && i+2 < len(s) {
			if decoded, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				i += 2
				if strings.IndexByte(unreserved, byte(decoded)) >= 0 {
					out.WriteByte(byte(decoded))
				} else {
					fmt.Fprintf(&out, "%%%02X", decoded)
				}
				continue
			}
		}
		if strings.IndexByte(allowed, c) >= 0 {
			out.WriteByte(c)
		} else {
			fmt.Fprintf(&out, "%%%02X", c)
		}
	}
	return out.String()
}

// withoutDots removes the segments "." and ".." (RFC 3986, 5.2.4) from a path that is empty or starts with a slash.
func withoutDots(path string) string {
	var kept []string
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, segment := range segments {
		last := i == len(segments)-1
		switch segment {
		case ".":
		case "..":
			kept = kept[:max(len(kept)-1, 0)]
		default:
			kept = append(kept, segment)
			continue
		}
		if last {
			kept = append(kept, "") // "a/." is "a/"
		}
	}
	return "/" + strings.Join(kept, "/")
}

// tracking are parameters that tell where a visitor came from, never what a page shows. utm_* are others.
var tracking = []string{
	"_ga", "_gl", "_hsenc", "_hsmi", "dclid", "fbclid", "gbraid", "gclid", "gclsrc", "igshid", "li_fat_id", "mc_cid", "mc_eid", "msclkid",
	"srsltid", "ttclid", "twclid", "vero_id", "wbraid", "yclid",
}

func withoutTracking(query string) string {
	if query == "" {
		return ""
	}
	kept := slices.DeleteFunc(strings.Split(query, "&"), func(parameter string) bool {
		name, _, _ := strings.Cut(parameter, "=")
		name = strings.ToLower(name)
		return strings.HasPrefix(name, "utm_") || slices.Contains(tracking, name)
	})
	return strings.Join(kept, "&")
}
