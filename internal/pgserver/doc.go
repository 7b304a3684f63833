// Package pgserver runs a real PostgreSQL server in a data folder, for development and tests: server programs that are
// installed, else a downloaded bundle. It needs no root; started by root it runs as an unprivileged user, which
// PostgreSQL insists on.
package pgserver
