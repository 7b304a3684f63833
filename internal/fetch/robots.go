package fetch

import (
	"bufio"
	"bytes"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atlas-platform/atlas/internal/sourceurl"
)

const (
	// maxRobots is how much of a robots.txt counts (RFC 9309, 2.5), and maxRules how many lines of it.
	maxRobots = 500 << 10
	maxRules  = 5000
	// maxPath is how long a path can be that is compared with a pattern: that of a canonical URL, encoded.
	maxPath = 3 * sourceurl.MaxLength
	// ruleSize is what a rule takes beside its pattern, in bytes.
	ruleSize = 24
)

// rules are what a robots.txt says to one crawler.
type rules struct {
	rules []rule
	// delay is the pause that it asks for; 0 when it doesn't.
	delay time.Duration
	size  int // in memory, in bytes
}

type rule struct {
	allow   bool
	pattern string // percent-encoded in one form; "*" is any text, "$" at the end is the end, and "%2A" and "%24" are the characters
}

// nobody is the robots.txt that lets nobody in.
var nobody = rules{rules: []rule{{pattern: "/"}}}

// parseRobots reads what a robots.txt says to the product, in lower case: all its groups together, or those of "*" where it has none.
func parseRobots(content []byte, product string) rules {
	var own, others rules
	named := false
	// What the lines are of: the groups that the user-agent lines right before name.
	var inOwn, inOthers, inHead bool
	lines := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(content[:min(len(content), maxRobots)], []byte("\xef\xbb\xbf"))))
	lines.Buffer(nil, maxRobots+1)
	lines.Split(scanLines)
	for count := 0; lines.Scan() && count < maxRules; {
		text, _, _ := strings.Cut(lines.Text(), "#")
		key, value, found := strings.Cut(text, ":")
		if !found {
			continue
		}
		key, value = strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value)
		if key == "user-agent" {
			if !inHead {
				inOwn, inOthers, inHead = false, false, true
			}
			switch agent := productOf(value); {
			case strings.TrimSpace(value) == "*":
				inOthers = true
			case agent != "" && agent == product:
				inOwn, named = true, true
			}
			continue
		}
		if key != "allow" && key != "disallow" && key != "crawl-delay" {
			continue // a sitemap, or something unknown, ends no group
		}
		inHead = false
		count++
		if inOwn {
			own.add(key, value)
		}
		if inOthers {
			others.add(key, value)
		}
	}
	if named {
		return own
	}
	return others
}

// scanLines ends lines at LF, CRLF or CR.
func scanLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexAny(data, "\r\n"); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// productOf is the product token that a user-agent line starts with, in lower case.
func productOf(agent string) string {
	end := strings.IndexFunc(agent, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_'
	})
	if end < 0 {
		end = len(agent)
	}
	return strings.ToLower(agent[:end])
}

func (r *rules) add(key, value string) {
	switch {
	case key == "crawl-delay":
		if seconds, err := strconv.ParseFloat(value, 64); err == nil && seconds > 0 {
			r.delay = time.Duration(min(seconds, 3600) * float64(time.Second))
		}
	case value != "": // an empty one says nothing
		pattern := normalPattern(value)
		if len(pattern)-strings.Count(pattern, "*") > maxPath {
			return // no URL matches it
		}
		r.rules = append(r.rules, rule{allow: key == "allow", pattern: strings.Clone(pattern)}) // without what building it has left over
		r.size += len(pattern) + ruleSize
	}
}

// allows reports whether the crawler may get the URL. The longest pattern that matches counts, of two the one that allows.
func (r rules) allows(u *url.URL) bool {
	path := u.EscapedPath()
	if u.RawQuery != "" {
		path += "?" + u.RawQuery
	}
	path = normalPath(path)
	if path == "/robots.txt" {
		return true
	}
	best := rule{allow: true}
	for _, candidate := range r.rules {
		longer := len(candidate.pattern) > len(best.pattern) || len(candidate.pattern) == len(best.pattern) && candidate.allow
		if longer && matches(candidate.pattern, path) {
			best = candidate
		}
	}
	return best.allow
}

// matches takes time linear in both, times the number of stars that don't match at once: it looks for the pieces one after the other.
func matches(pattern, path string) bool {
	pattern, toEnd := strings.CutSuffix(pattern, "$")
	pieces := strings.Split(pattern, "*")
	if !strings.HasPrefix(path, pieces[0]) {
		return false
	}
	path = path[len(pieces[0]):]
	if len(pieces) == 1 {
		return !toEnd || path == ""
	}
	last := len(pieces) - 1
	for _, piece := range pieces[1:last] {
		i := strings.Index(path, piece)
		if i < 0 {
			return false
		}
		path = path[i+len(piece):]
	}
	if toEnd {
		return strings.HasSuffix(path, pieces[last])
	}
	return strings.Contains(path, pieces[last])
}

// normalPattern is a rule's pattern in the form of normalPath, but for the stars, and the dollar at the end, which mean something there. Stars in a row
// are one.
func normalPattern(pattern string) string {
	pattern, toEnd := strings.CutSuffix(pattern, "$")
	pieces := strings.Split(pattern, "*")
	last := len(pieces) - 1
	kept := pieces[:0]
	for i, piece := range pieces {
		if piece != "" || i == 0 || i == last {
			kept = append(kept, normalPath(piece))
		}
	}
	pattern = strings.Join(kept, "*")
	if toEnd {
		pattern += "$"
	}
	return pattern
}

// normalPath encodes what is not ASCII, and decodes what need not be encoded, so that a path and a pattern compare (RFC 9309, 2.2.2). A star and a dollar
// are encoded, as that is how a pattern names them (2.2.3).
func normalPath(path string) string {
	var out strings.Builder
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '%' && i+2 < len(path):
			decoded, err := strconv.ParseUint(path[i+1:i+3], 16, 8)
			if err != nil {
				out.WriteByte(c)
				continue
			}
			i += 2
			if unreserved(byte(decoded)) {
				out.WriteByte(byte(decoded))
				continue
			}
			out.Write([]byte{'%', hex[decoded>>4], hex[decoded&15]})
		case c >= 0x80 || c <= ' ' || c == '*' || c == '$':
			out.Write([]byte{'%', hex[c>>4], hex[c&15]})
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || slices.Contains([]byte("-._~"), c)
}
