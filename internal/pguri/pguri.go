// Package pguri checks PostgreSQL URIs more strictly than those who connect with them. They differ in what they make of a character that should have been escaped, and
// then take a part of the password for the host or the user, and print it.
package pguri

import (
	"errors"
	"net/url"
	"strings"
)

// Check returns an error that says what to write instead, and never repeats a part of the URI.
func Check(uri string) error {
	u, err := url.Parse(uri)
	_, rest, _ := strings.Cut(uri, "://")
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, tail := rest[:end], rest[end:]
	switch {
	case strings.Count(authority, "@") > 1 || strings.Contains(tail, "@"):
		return errors.New("has an @, /, ? or # in its user name or password: write %40, %2F, %3F or %23")
	case err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") || u.Hostname() == "":
		return errors.New("is not a PostgreSQL URI: write postgres://user:password@host:5432/database, percent-encoded, without a newline")
	case u.Query().Has("password"):
		return errors.New("has its password among the parameters: write postgres://user:password@host:5432/database")
	}
	if err := checkPorts(u.Host); err != nil {
		return err
	}
	return checkParameters(u.Query())
}
