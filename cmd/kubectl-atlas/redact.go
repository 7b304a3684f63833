package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

const redacted = "[redacted]"

// credentials are what looks like one, wherever it comes from: of a URL, of an assignment, and tokens.
var credentials = []*regexp.Regexp{ //nolint:gochecknoglobals // compiled once
	regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@"']*:)[^\s@"']+(@)`),
	regexp.MustCompile(`(?i)((?:password|passwd|secret|token|api[_-]?key|authorization)["']?[ \t]*[:=][ \t]*["']?(?:bearer |basic )?)[^\s"',}]+()`),
	regexp.MustCompile(`()eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+()`), // JSON Web Tokens
	regexp.MustCompile(`()atlas_(?:pat|rt)_[A-Za-z0-9_-]{8,}()`),
	regexp.MustCompile(`(?s)(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END [A-Z ]*PRIVATE KEY-----)`),
}

// redactor takes secrets out of text: those that it knows, and what looks like one.
type redactor struct {
	known [][]byte
	// words are secrets so short that they are taken out as whole words only.
	words []*regexp.Regexp
	// seen are those of both.
	seen map[string]bool
}

const (
	// shortest is the shortest value that counts as a secret when nothing says that it is one; a shorter one would be found everywhere.
	shortest = 8
	// shortestPassword is the same for what is named like a password. Shorter than shortest it is found as a whole word only.
	shortestPassword = 4
)

// secretName is how a secret is named: the key of a Secret, an environment variable, a header.
var secretName = regexp.MustCompile(`(?i)passw|passphrase|passcode|pass(?:[^a-z]|$)|pwd|(?:^|[^a-z])pw(?:[^a-z]|$)|secret|token|credential|cookie|bearer|authorization|auth$|private|webhook|` + //nolint:gochecknoglobals // compiled once
	`dsn|conn(?:ection)?[-_.]?str|salt$|keys?(?:[^a-z]|$)`)

// elsewhere ends the names of what only says where a secret is, or how it is used.
var elsewhere = regexp.MustCompile(`(?i)(?:file|path|dir|ttl|timeout|interval|lifetime|enabled|length|(?:token|key|keys|secret|auth)[-_.]?(?:name|url|uri|endpoint))$`) //nolint:gochecknoglobals // compiled once

// named tells whether a name is that of a secret.
func named(name string) bool { return secretName.MatchString(name) && !elsewhere.MatchString(name) }

// harmless are values that are no secret under any name: nothing, a switch, and a reference to another variable.
var harmless = regexp.MustCompile(`(?i)^(?:true|false|yes|no|on|off|none|null|\$\([A-Za-z0-9_.-]+\))?$`) //nolint:gochecknoglobals // compiled once

// know adds a secret that is named so, in every form in which it may have been written.
func (r *redactor) know(name string, value []byte) {
	least := shortest
	if named(name) {
		least = shortestPassword
	}
	r.learn(value, least)
	// The longest first: one may be a part of another.
	slices.SortStableFunc(r.known, func(a, b []byte) int { return len(b) - len(a) })
	slices.SortStableFunc(r.words, func(a, b *regexp.Regexp) int { return len(b.String()) - len(a.String()) })
}

func (r *redactor) learn(value []byte, least int) {
	value = bytes.TrimSpace(value)
	if len(value) < least || harmless.Match(value) {
		return
	}
	if u, err := url.Parse(string(value)); err == nil && u.User != nil {
		if password, ok := u.User.Password(); ok {
			r.learn([]byte(password), shortestPassword)
		}
	}
	text := string(value)
	quoted, err := json.Marshal(text)
	if err != nil {
		return // a string always can be
	}
	for _, form := range []string{text, strings.Trim(string(quoted), `"`), base64.StdEncoding.EncodeToString(value), url.QueryEscape(text), url.PathEscape(text), url.UserPassword("", text).String()[1:]} {
		if r.seen[form] || len(form) < least {
			continue
		}
		if r.seen == nil {
			r.seen = map[string]bool{}
		}
		r.seen[form] = true
		if len(form) >= shortest {
			r.known = append(r.known, []byte(form))
			continue
		}
		r.words = append(r.words, regexp.MustCompile(`(^|[^A-Za-z0-9])`+regexp.QuoteMeta(form)+`($|[^A-Za-z0-9])`))
	}
}

func (r *redactor) redact(text []byte) []byte {
	for _, secret := range r.known {
		text = bytes.ReplaceAll(text, secret, []byte(redacted))
	}
	for _, word := range r.words {
		// Twice: two of them may share the character between them.
		for range 2 {
			text = word.ReplaceAll(text, []byte("${1}"+redacted+"${2}"))
		}
	}
	for _, pattern := range credentials {
		text = pattern.ReplaceAll(text, []byte("${1}"+redacted+"${2}"))
	}
	return text
}
