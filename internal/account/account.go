// Package account holds the rules of an account that more than one role applies: how an e-mail is spelled and how long a password is.
package account

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Bounds of lengths in characters.
const (
	maxEmail    = 254
	MinPassword = 8
	MaxPassword = 128
)

// NormalizeEmail returns the one spelling under which an account is stored and found.
func NormalizeEmail(email string) string {
	return strings.ToLower(strings.TrimSpace(norm.NFKC.String(email)))
}

// EmailOK reports whether a normalized e-mail can be one: normalizing may add spaces, a second @ and many characters.
func EmailOK(email string) bool {
	local, domain, _ := strings.Cut(email, "@")
	strange := func(r rune) bool { return r == '@' || unicode.IsSpace(r) || unicode.IsControl(r) }
	return local != "" && domain != "" && utf8.RuneCountInString(email) <= maxEmail && !strings.ContainsFunc(local+domain, strange)
}

// PasswordLengthOK reports whether a password is neither too short nor too long.
func PasswordLengthOK(password string) bool {
	n := utf8.RuneCountInString(password)
	return n >= MinPassword && n <= MaxPassword
}
