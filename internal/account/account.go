// Package account holds the rules of an account that more than one role applies: how an e-mail is spelled and how long a password is.
package account

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Bounds of a password's length in characters.
const (
	MinPassword = 8
	MaxPassword = 128
)

// NormalizeEmail returns the one spelling under which an account is stored and found.
func NormalizeEmail(email string) string {
	return strings.ToLower(strings.TrimSpace(norm.NFKC.String(email)))
}

// PasswordLengthOK reports whether a password is neither too short nor too long.
func PasswordLengthOK(password string) bool {
	n := utf8.RuneCountInString(password)
	return n >= MinPassword && n <= MaxPassword
}
