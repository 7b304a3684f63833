// Package e2e proves Atlas as a whole on a real Kubernetes node with real PostgreSQL, Kafka and Elasticsearch. `make test` brings the stack up
// first; every test here uses it as its users would: kubectl's API, REST, a plain Kafka consumer.
package e2e
