// Package fetch gets web pages that users named, and nothing but web pages of the public Internet. Where a connection goes is decided on the very
// address that is dialled, so neither a spelling of a host nor a resolver that changes its answer nor a redirect leads it anywhere else. It is polite:
// it obeys robots.txt (RFC 9309), and asks a host one thing at a time, with a pause between.
package fetch
