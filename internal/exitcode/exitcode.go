// Package exitcode has the exit codes of the binary atlas that the operator understands.
package exitcode

// SchemaAhead says that the database has a newer schema than this release knows.
const SchemaAhead = 10
