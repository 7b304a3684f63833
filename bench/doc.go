// Command bench measures the REST API on this machine, each figure beside its ceiling or rival measured in the same run: the same statement in a
// bare pgx loop, without HTTP, tokens, JSON or a relay; and the same page from FastAPI with asyncpg. Clients, services and database share the
// processors, so only the ratios mean anything elsewhere. `make bench` runs it; docs/benchmarks.md has figures and how to read them.
package main
